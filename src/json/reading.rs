//! What the parser builds from a document: a tree, or nothing, with its scalars visited.

use std::borrow::Cow;

use super::value::Value;

/// A visitor of every scalar of a document, and its place.
pub(crate) trait Walk<'a> {
    /// Where in the document a value is, as far as it matters.
    type Path: Copy;

    fn member(&self, object: Self::Path, key: &str) -> Self::Path;
    fn element(&self, array: Self::Path) -> Self::Path;
    /// Visits a scalar, or a value that is nested too deep.
    fn scalar(&mut self, place: Self::Path, value: Value<'a>);
}

/// What is built from a document while it is read.
pub(super) trait Reading<'a> {
    type Path: Copy;
    /// The result for a value.
    type Read;
    /// The result for the members of an object.
    type Members: Default;
    /// The result for the elements of an array.
    type Elements: Default;

    fn member(&self, object: Self::Path, key: &str) -> Self::Path;
    fn element(&self, array: Self::Path) -> Self::Path;
    fn scalar(&mut self, place: Self::Path, value: Value<'a>) -> Self::Read;
    fn add_member(members: &mut Self::Members, key: Cow<'a, str>, value: Self::Read);
    fn add_element(elements: &mut Self::Elements, value: Self::Read);
    fn object(members: Self::Members) -> Self::Read;
    fn array(elements: Self::Elements) -> Self::Read;
}

/// The whole document.
pub(super) struct Tree;

/// Most objects have no more members than this: these are not copied to a larger allocation.
const USUAL_MEMBERS: usize = 12;

impl<'a> Reading<'a> for Tree {
    type Path = ();
    type Read = Value<'a>;
    type Members = Vec<(Cow<'a, str>, Value<'a>)>;
    type Elements = Vec<Value<'a>>;

    fn member(&self, (): (), _: &str) {}

    fn element(&self, (): ()) {}

    fn scalar(&mut self, (): (), value: Value<'a>) -> Value<'a> {
        value
    }

    fn add_member(members: &mut Self::Members, key: Cow<'a, str>, value: Value<'a>) {
        if members.is_empty() {
            members.reserve(USUAL_MEMBERS);
        }
        members.push((key, value));
    }

    fn add_element(elements: &mut Self::Elements, value: Value<'a>) {
        elements.push(value);
    }

    fn object(members: Self::Members) -> Value<'a> {
        Value::object(members)
    }

    fn array(elements: Self::Elements) -> Value<'a> {
        Value::Array(elements)
    }
}

/// Builds nothing; the scalars are visited.
pub(super) struct Walking<W>(pub(super) W);

impl<'a, W: Walk<'a>> Reading<'a> for Walking<W> {
    type Path = W::Path;
    type Read = ();
    type Members = ();
    type Elements = ();

    fn member(&self, object: W::Path, key: &str) -> W::Path {
        self.0.member(object, key)
    }

    fn element(&self, array: W::Path) -> W::Path {
        self.0.element(array)
    }

    fn scalar(&mut self, place: W::Path, value: Value<'a>) {
        self.0.scalar(place, value);
    }

    fn add_member((): &mut (), _: Cow<'a, str>, (): ()) {}

    fn add_element((): &mut (), (): ()) {}

    fn object((): ()) {}

    fn array((): ()) {}
}
