"""The database: connection, group commit, tables, migrations. All other SQL is written against it."""
