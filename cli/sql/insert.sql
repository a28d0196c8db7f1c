INSERT INTO "mainstem"."events" (position, following, id, type, tags, payload, metadata, bytes, content_type, stream, version,
        occurred_at, recorded_at)
SELECT n.position, n.following, n.id, n.type,
       ARRAY(SELECT t.tag FROM jsonb_array_elements_text(n.tags::jsonb) WITH ORDINALITY AS t(tag, place) ORDER BY t.place),
       n.payload::jsonb, n.metadata::jsonb, n.bytes, n.content_type, n.stream, n.version, n.occurred_at, n.recorded_at
FROM unnest($1::bigint[], $2::int4[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[], $9::text[],
            $10::text[], $11::bigint[], $12::timestamptz[], $13::timestamptz[])
    AS n(position, following, id, type, tags, payload, metadata, bytes, content_type, stream, version, occurred_at, recorded_at)
