"""Records of finished runs, and the tables and statistics made of them."""
