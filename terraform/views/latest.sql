-- One row a key: of what was said last, and of that what was recorded last. A late retry or a replay says nothing newer.
SELECT * FROM `${dataset}.${table}_raw` WHERE ${kept}
QUALIFY ROW_NUMBER() OVER (PARTITION BY ${key} ORDER BY ${said_at} DESC, recorded_at DESC) = 1
