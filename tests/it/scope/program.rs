//! The language of the random programs, and what the model expects of them.

use std::pin::Pin;

use futures_util::FutureExt;
use mainstem::{
    Consistency::{self, Eventual, Strong},
    Extensions, InScope, Scope, current_consistency, with_eventual_consistency, with_strong_consistency,
};
use proptest::{collection::vec, prelude::*};

#[derive(Debug, PartialEq)]
struct A(u8);
#[derive(Debug, PartialEq)]
struct B(u8);

/// What the model says of a point in a program.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expected {
    pub(super) level: Consistency,
    a: Option<u8>,
    b: Option<u8>,
}

impl Default for Expected {
    /// Outside all scopes.
    fn default() -> Self {
        Self { level: Strong, a: None, b: None }
    }
}

impl Expected {
    pub(super) fn observed() -> Self {
        let scope = Scope::current();
        Self { level: current_consistency(), a: scope.get().map(|A(a)| *a), b: scope.get().map(|B(b)| *b) }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Setting {
    Level(Consistency),
    ItemA(u8),
    ItemB(u8),
    Items(u8, u8),
    /// Not derived from the current scope.
    Fresh(Consistency, u8),
}

impl Setting {
    pub(super) fn model(&self, outer: &Expected) -> Expected {
        let mut inner = outer.clone();
        match self.clone() {
            Self::Level(level) => inner.level = level,
            Self::ItemA(a) => inner.a = Some(a),
            Self::ItemB(b) => inner.b = Some(b),
            Self::Items(a, b) => (inner.a, inner.b) = (Some(a), Some(b)),
            Self::Fresh(level, b) => inner = Expected { level, a: None, b: Some(b) },
        }
        inner
    }

    pub(super) fn scope(&self) -> Scope {
        let current = Scope::current();
        match self.clone() {
            Self::Level(level) => current.with_consistency(level),
            Self::ItemA(a) => current.with_item(A(a)),
            Self::ItemB(b) => current.with_item(B(b)),
            Self::Items(a, b) => current.with_items(Extensions::new().with(A(a)).with(B(b))),
            Self::Fresh(level, b) => Scope::new().with_item(B(b)).with_consistency(level),
        }
    }

    pub(super) fn wrap(&self, future: Task) -> Task {
        match self {
            Self::Level(Strong) => with_strong_consistency(future).boxed(),
            Self::Level(Eventual) => with_eventual_consistency(future).boxed(),
            Self::Items(..) => future.in_scope(self.scope()).boxed(),
            _ => self.scope().run(future).boxed(),
        }
    }
}

pub(super) type Block = Vec<Node>;
pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Clone, Debug)]
pub(super) enum Node {
    Yield,
    /// Where a panic is caught somewhere further out; elsewhere it does nothing.
    Panic,
    /// Waits forever where somebody cancels it; elsewhere it does nothing.
    Hang,
    Enter(Setting, Block),
    Spawn {
        carried: bool,
        block: Block,
    },
    Blocking {
        carried: bool,
        block: Block,
    },
    Sync(Setting, Block),
    Join(Vec<Block>),
    Select {
        loser_first: bool,
        winner: Block,
        loser: Block,
    },
    Catch(Block),
    Abort {
        after: u8,
        setting: Setting,
        block: Block,
    },
    /// Polled so often, and then dropped in another scope.
    Drop {
        polls: u8,
        setting: Setting,
        elsewhere: Setting,
        block: Block,
    },
    /// Made in one scope and polled in another; with a level of its own, or with that of where it is made.
    Move {
        made: Setting,
        level: Option<Consistency>,
        polled: Setting,
        block: Block,
    },
}

fn level() -> impl Strategy<Value = Consistency> {
    prop_oneof![Just(Strong), Just(Eventual)]
}

fn setting() -> impl Strategy<Value = Setting> {
    prop_oneof![
        4 => level().prop_map(Setting::Level),
        1 => any::<u8>().prop_map(Setting::ItemA),
        1 => any::<u8>().prop_map(Setting::ItemB),
        1 => any::<(u8, u8)>().prop_map(|(a, b)| Setting::Items(a, b)),
        1 => (level(), any::<u8>()).prop_map(|(level, b)| Setting::Fresh(level, b)),
    ]
}

/// Any program.
pub(super) fn program() -> impl Strategy<Value = Block> {
    let leaf = prop_oneof![3 => Just(Node::Yield), 1 => Just(Node::Panic), 1 => Just(Node::Hang)];
    let node = leaf.prop_recursive(5, 40, 4, |node| {
        let block = || vec(node.clone(), 0..4);
        let enter = (setting(), block()).prop_map(|(setting, block)| Node::Enter(setting, block));
        prop_oneof![
            4 => enter,
            2 => (any::<bool>(), block()).prop_map(|(carried, block)| Node::Spawn { carried, block }),
            1 => (any::<bool>(), block())
                .prop_map(|(carried, block)| Node::Blocking { carried, block }),
            1 => (setting(), block()).prop_map(|(setting, block)| Node::Sync(setting, block)),
            1 => vec(block(), 1..4).prop_map(Node::Join),
            1 => (any::<bool>(), block(), block()).prop_map(|(loser_first, winner, loser)| {
                Node::Select { loser_first, winner, loser }
            }),
            2 => block().prop_map(Node::Catch),
            1 => (0..4_u8, setting(), block())
                .prop_map(|(after, setting, block)| Node::Abort { after, setting, block }),
            1 => (0..4_u8, setting(), setting(), block()).prop_map(
                |(polls, setting, elsewhere, block)| Node::Drop { polls, setting, elsewhere, block }
            ),
            1 => (setting(), proptest::option::of(level()), setting(), block()).prop_map(
                |(made, level, polled, block)| Node::Move { made, level, polled, block }
            ),
        ]
    });
    vec(node, 1..5)
}
