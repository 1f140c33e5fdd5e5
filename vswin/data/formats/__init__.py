"""Behind ``vswin.data.annotations``: the lists that publishers and the field keep, one file per format."""
