#![doc = include_str!("links.md")]
#![doc = include_str!("../../docs/README.md")]

// The manual. Its chapters are the files in `docs`, which can be read there as well; what rustdoc adds is links.
//
// A chapter refers to another one by the name of its file, and says at its end where that lies: `[limits]: limits.md`. In
// front of it comes `links.md`, with the same names for rustdoc, and of two definitions Markdown takes the first.

macro_rules! chapters {
    ($($name:ident, $file:literal, $reference:literal;)+) => { $(
        #[doc = include_str!("links.md")]
        #[doc = include_str!($file)]
        #[doc = $reference]
        pub mod $name {}
    )+ };
}

chapters! {
    getting_started, "../../docs/getting-started.md",
        "\n# Reference\n[`Router`](crate::Router), [`PostgresEventStore`](crate::PostgresEventStore), [`Filter`](crate::Filter)";
    concepts, "../../docs/concepts.md",
        "\n# Reference\n[`Event`](crate::Event), [`Filter`](crate::Filter), [`AppendCondition`](crate::AppendCondition), \
         [`Consistency`](crate::Consistency), [`Scope`](crate::Scope), [`Token`](crate::Token), [`Session`](crate::Session)";
    usage, "../../docs/usage.md",
        "\n# Reference\n[`EventStore`](crate::EventStore), [`NewEvent`](crate::NewEvent), [`History`](crate::History), \
         [`Page`](crate::Page), [`QueryStream`](crate::QueryStream), [`ExpectedVersion`](crate::ExpectedVersion), \
         [`Import`](crate::Import), [`Error`](crate::Error)";
    decisions, "../../docs/decisions.md",
        "\n# Reference\n[`Projection`](crate::Projection), [`DecisionModel`](crate::DecisionModel), [`Command`](crate::Command), \
         [`CommandExecutor`](crate::CommandExecutor), [`CommandRecord`](crate::CommandRecord), [`EventCodec`](crate::EventCodec)";
    following, "../../docs/following.md",
        "\n# Reference\n[`Subscribe`](crate::Subscribe), [`Subscription`](crate::Subscription), [`Consumer`](crate::Consumer), \
         [`ConsumerControl`](crate::ConsumerControl), [`ReadModel`](crate::ReadModel), [`ReadModels`](crate::ReadModels)";
    snapshots, "../../docs/snapshots.md",
        "\n# Reference\n[`SnapshotStore`](crate::SnapshotStore), [`SnapshotKey`](crate::SnapshotKey), [`Project`](crate::Project)";
    primary_and_replicas, "../../docs/primary-and-replicas.md",
        "\n# Reference\n[`RouterBuilder`](crate::RouterBuilder), [`Router`](crate::Router), [`Client`](crate::Client), \
         [`Transaction`](crate::Transaction), [`RouterStatus`](crate::RouterStatus)";
    limits, "../../docs/limits.md",
        "\n# Reference\n[`RouterBuilder`](crate::RouterBuilder), [`PostgresEventStoreBuilder`](crate::PostgresEventStoreBuilder), \
         [`CommandExecutor`](crate::CommandExecutor), [`ConsumerBuilder`](crate::ConsumerBuilder)";
    schema, "../../docs/schema.md",
        "\n# Reference\n[`LogName`](crate::LogName), [`Access`](crate::schema::Access), [`LogIndex`](crate::schema::LogIndex), [`HotKey`](crate::schema::HotKey)";
    telemetry, "../../docs/telemetry.md", "\n# Reference\n[`telemetry`](mod@crate::telemetry)";
    testing, "../../docs/testing.md", "";
    performance, "../../docs/performance.md", "";
    erasure, "../../docs/erasure.md", "\n# Reference\n[`Payload`](crate::Payload)";
    archiving, "../../docs/archiving.md", "\n# Reference\n[`LogName`](crate::LogName), [`Import`](crate::Import)";
    operations, "../../docs/operations.md", "";
    cookbook, "../../docs/cookbook.md", "";
    faq, "../../docs/faq.md", "\n# Reference\n[`ExistingPool`](crate::ExistingPool), [`RouterBuilder`](crate::RouterBuilder), [`LogName`](crate::LogName)";
    migrating, "../../docs/migrating.md", "";
    compare, "../../docs/compare.md", "";
    design, "../../docs/design.md", "";
    guarantees, "../../docs/guarantees.md", "";
    checklist, "../../docs/checklist.md", "";
    benchmarks, "../../docs/benchmarks.md", "";
    references, "../../docs/references.md", "";
}
