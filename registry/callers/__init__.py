"""Who calls: keys, users, teams and tokens of issuers, put together into one `Principal`."""
