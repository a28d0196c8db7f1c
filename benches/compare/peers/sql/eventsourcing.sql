INSERT INTO dcb_events_tt_main (type, data, tags)
    SELECT type, convert_to(payload::text, 'UTF8'), tags FROM mainstem.events ORDER BY position;
INSERT INTO dcb_events_tt_tag (tag, main_id)
    SELECT unnest(tags), id FROM dcb_events_tt_main ORDER BY id
