"""Behind ``vswin.data.video``: opening, finding and decoding frames, one file per kind of source."""
