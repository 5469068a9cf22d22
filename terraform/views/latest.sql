SELECT * FROM `${dataset}.${table}_raw`
QUALIFY ROW_NUMBER() OVER (PARTITION BY ${key} ORDER BY recorded_at DESC) = 1
