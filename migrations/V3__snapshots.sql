-- States of projections, so that a projection need not read the whole log again. A cache: any row may be deleted at any
-- time, and so is no history: unlike the log, this table may be changed.

CREATE TABLE "mainstem"."events_snapshots" (
    projection text        COLLATE "C" NOT NULL,
    -- Of the code that computes the state.
    version    bigint      NOT NULL CHECK (version >= 0),
    -- The SHA-256 of the filter whose events the state is computed from.
    filter     bytea       NOT NULL CHECK (octet_length(filter) = 32),
    -- The last event of the log when the state was computed, whether it matched or not. No foreign key: the check at the
    -- load is what finds a snapshot of another history, and a key would only slow the log down.
    position   bigint      NOT NULL CHECK (position > 0),
    id         uuid        NOT NULL,
    -- Not jsonb: it is written and read whole and never searched, and json keeps the text as it is, so that neither side
    -- converts it and 1e9999 stays six bytes.
    state      json        NOT NULL,
    saved_at   timestamptz NOT NULL,
    CONSTRAINT "events_snapshots_key" PRIMARY KEY (projection, version, filter)
);
