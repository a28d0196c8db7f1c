//! The items of a scope: a typed map, with a link to the map of the surrounding scope.
//!
//! `Extensions` cannot be cloned, and an item need not be `Clone`, so a nested scope shares the outer map and searches
//! it when its own map has no such item.

use std::{mem, sync::Arc};

use task_local_extensions::Extensions;

/// Nothing, or a frame that other scopes may share.
#[derive(Clone, Default)]
pub(super) struct Items(Option<Arc<Frame>>);

#[derive(Default)]
struct Frame {
    own: Extensions,
    outer: Items,
}

impl Items {
    /// The innermost item of this type.
    pub(super) fn get<T: 'static>(&self) -> Option<&T> {
        let mut next = self.0.as_deref();
        while let Some(frame) = next {
            if let Some(item) = frame.own.get() {
                return Some(item);
            }
            next = frame.outer.0.as_deref();
        }
        None
    }

    /// Changes a frame that no other scope can see: the innermost one, or a new one inside it.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Extensions)) {
        // Reusing the frame keeps a scope that is built item by item at one frame: one look-up, whatever the number of
        // items.
        let mut frame = match mem::take(self).0.map(Arc::try_unwrap) {
            Some(Ok(frame)) => frame,
            Some(Err(shared)) => Frame { own: Extensions::new(), outer: Self(Some(shared)) },
            None => Frame::default(),
        };
        change(&mut frame.own);
        self.0 = Some(Arc::new(frame));
    }
}

impl Drop for Frame {
    /// Uses a loop: dropping a long chain of frames by recursion overflows the stack.
    fn drop(&mut self) {
        let mut next = self.outer.0.take();
        while let Some(mut frame) = next.and_then(Arc::into_inner) {
            next = frame.outer.0.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_chain_is_dropped_without_recursion() {
        let mut items = Items::default();
        for depth in 0..200_000_u32 {
            let _outer = items.clone();
            items.change(|own| _ = own.insert(depth));
        }
        assert_eq!(items.get(), Some(&199_999_u32));
        drop(items);
    }

    #[test]
    fn items_that_are_added_one_by_one_share_a_frame() {
        let mut items = Items::default();
        items.change(|own| _ = own.insert(1_u8));
        items.change(|own| _ = own.insert(2_u16));
        let frame = items.0.as_deref().unwrap();
        assert!(frame.own.contains::<u8>() && frame.own.contains::<u16>());
        assert!(frame.outer.0.is_none());
    }
}
