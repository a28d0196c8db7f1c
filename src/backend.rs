//! What an implementor of [`EventStore`](crate::EventStore) or [`SnapshotStore`](crate::SnapshotStore) works with.
//!
//! Applications call the methods of the two traits, which return builders, and never name these types. A store receives
//! requests, and returns answers; [`Guard`], [`StreamAppend`] and [`ReadAfterRequest`] have the methods that make its
//! decisions and its errors equal to those of every other store. [`FilterItem`] and its parts are what a finished
//! [`Filter`](crate::Filter) consists of, for a store that translates filters into a query language of its own.
//!
//! `examples/file_store.rs` is a complete store, and
#![cfg_attr(feature = "testing", doc = "[`testing::event_store`](crate::testing::event_store)")]
#![cfg_attr(not(feature = "testing"), doc = "`testing::event_store` (feature `testing`)")]
//! the tests that each store must pass.

pub use crate::{
    filter::{Bounds, FilterItem, Fragment, PredicateGroup, Side},
    store::{
        After, Answer, AppendRequest, BoxFuture, BoxStream, DeleteSnapshotRequest, Guard, LoadSnapshotRequest,
        LoadStreamAnswer, LoadStreamRequest, Order, Piece, QueryRequest, ReadAfterRequest, ReadAfterSnapshotRequest,
        SaveSnapshotRequest, StreamAppend, WaitRequest,
    },
};
