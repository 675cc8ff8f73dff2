module exact-dedup

go 1.24
