"""Log files to rows: find files, unpack and recode them (opening), cut them (cutting, parquet), parse rows (rows)."""
