-- What was run, by the names of the files.
SELECT 'V' || h.version || '__' || h.name, h.checksum::text FROM /* history */ AS h ORDER BY h.version
