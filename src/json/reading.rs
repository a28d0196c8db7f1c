//! What the parser builds from a document: a tree, or nothing, with its scalars visited.

use std::borrow::Cow;

use super::value::Value;

/// A visitor of every scalar of a document, and its place.
pub(crate) trait Walk<'a> {
    /// Where in the document a value is, as far as it matters.
    type Place: Copy;

    fn member(&self, object: Self::Place, key: &str) -> Self::Place;
    fn element(&self, array: Self::Place) -> Self::Place;
    /// Visits a scalar, or a value that is nested too deep.
    fn scalar(&mut self, place: Self::Place, value: Value<'a>);
}

/// What is built from a document while it is read.
pub(super) trait Reading<'a> {
    type Place: Copy;
    /// The result for a value.
    type Read;
    /// The result for the members of an object.
    type Members: Default;
    /// The result for the elements of an array.
    type Elements: Default;

    fn member(&self, object: Self::Place, key: &str) -> Self::Place;
    fn element(&self, array: Self::Place) -> Self::Place;
    fn scalar(&mut self, place: Self::Place, value: Value<'a>) -> Self::Read;
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
    type Place = ();
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
    type Place = W::Place;
    type Read = ();
    type Members = ();
    type Elements = ();

    fn member(&self, object: W::Place, key: &str) -> W::Place {
        self.0.member(object, key)
    }

    fn element(&self, array: W::Place) -> W::Place {
        self.0.element(array)
    }

    fn scalar(&mut self, place: W::Place, value: Value<'a>) {
        self.0.scalar(place, value);
    }

    fn add_member((): &mut (), _: Cow<'a, str>, (): ()) {}

    fn add_element((): &mut (), (): ()) {}

    fn object((): ()) {}

    fn array((): ()) {}
}
