module infmon-pause

go 1.26.0
