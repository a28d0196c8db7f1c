-- Who follows the log, and how far they have got. The log itself knows nothing of them.

CREATE TABLE "mainstem"."events_consumers" (
    consumer   text    COLLATE "C" NOT NULL,
    -- Into how many parts its events are divided, by a key, for good: with another number, keys would be in other parts.
    partitions int4    NOT NULL CHECK (partitions > 0),
    is_paused  boolean NOT NULL,
    -- Which events it handles, by the digest of its filter, and the version of who handles them: a member with others would
    -- go on from a checkpoint that does not say what it thinks. NULL after a reset, until a member joins.
    filter     bytea,
    version    bigint  CHECK (version >= 0),
    CONSTRAINT "events_consumers_key" PRIMARY KEY (consumer),
    CONSTRAINT "events_consumers_filter" CHECK ((filter IS NULL) = (version IS NULL))
);

-- The processes that work for a consumer now. One that does not say in time that it lives has lost its partitions.
CREATE TABLE "mainstem"."events_members" (
    consumer    text        COLLATE "C" NOT NULL,
    member      uuid        NOT NULL,
    alive_until timestamptz NOT NULL,
    -- How far ahead its clock may have set that: by the clock of a server that was promoted, it may be much further.
    lease       interval    NOT NULL,
    CONSTRAINT "events_members_key" PRIMARY KEY (consumer, member)
);

-- The checkpoints: one for each partition.
CREATE TABLE "mainstem"."events_progress" (
    consumer  text        COLLATE "C" NOT NULL,
    partition int4        NOT NULL CHECK (partition >= 0),
    -- The last event that was handled, whether it was of this partition or not; 0 and NULL at the beginning.
    position  bigint      NOT NULL CHECK (position >= 0),
    id        uuid,
    -- Earlier ones, further and further apart: when the log has lost the last one, they say how far the two agree.
    past      json        NOT NULL,
    -- The fence: it grows with each new owner, and a checkpoint is only saved by who knows the present one.
    epoch     bigint      NOT NULL CHECK (epoch >= 0),
    member    uuid,
    saved_at  timestamptz NOT NULL,
    CONSTRAINT "events_progress_key" PRIMARY KEY (consumer, partition),
    CONSTRAINT "events_progress_id" CHECK ((position = 0) = (id IS NULL))
) WITH (fillfactor = 50);

-- Events that a consumer has passed over, since it could not handle them.
CREATE TABLE "mainstem"."events_skipped" (
    consumer   text        COLLATE "C" NOT NULL,
    position   bigint      NOT NULL,
    id         uuid        NOT NULL,
    reason     text        NOT NULL,
    attempts   bigint      NOT NULL,
    skipped_at timestamptz NOT NULL,
    CONSTRAINT "events_skipped_key" PRIMARY KEY (consumer, position, id)
);
