//! What a decision is based on: projections, alone or composed.

use super::{ModelQuery, boundary::Boundary};
use crate::{Error, Event, Filter, Project, Result, SnapshotKey, SnapshotStore, store::EventStore};

/// A model that resumes from its snapshot, by [`DecisionModel::resume_from`].
pub type ResumeModel<'a, M> = Project<'a, M, Box<dyn FnMut(&mut M, &Event) -> Result<()> + Send + 'a>>;

/// A state that is computed from the events of a filter, one after the other.
///
/// It is a plain type of yours in its state before the first event: what it is about (an id) and what is computed (a
/// number, a flag). The filter selects the events that concern it, and `apply` updates it with one of them.
///
/// ```
/// use mainstem::{Event, Filter, Projection, Result};
///
/// struct Course {
///     id: u32,
///     capacity: u32,
///     enrolled: u32,
/// }
///
/// impl Projection for Course {
///     fn filter(&self) -> Result<Filter> {
///         let types = ["CourseDefined", "StudentEnrolled"];
///         Filter::matching().any_type_of(types).and_all_tags_of([format!("course:{}", self.id)]).finish()
///     }
///
///     fn apply(&mut self, event: &Event) -> Result<()> {
///         match event.event_type() {
///             "CourseDefined" => self.capacity = event.decode()?,
///             _ => self.enrolled += 1,
///         }
///         Ok(())
///     }
/// }
/// ```
///
/// Every projection is a [`DecisionModel`], which can be [read](DecisionModel::read_from), composed with others, and
/// [resumed](DecisionModel::resume_from) from a snapshot. `apply` has the form that
/// [`SnapshotStore::project`](crate::SnapshotStore::project) takes.
pub trait Projection: Send {
    /// Returns the filter of the events that concern it. It is called before the first event, once for each read.
    ///
    /// # Errors
    ///
    /// Whatever [`FilterBuilder::finish`](crate::FilterBuilder::finish) returns.
    fn filter(&self) -> Result<Filter>;

    /// Updates the state with an event that matches the filter. It is called for no other event.
    ///
    /// # Errors
    ///
    /// If the event cannot be read, as by [`Event::decode`]. The error ends the read.
    fn apply(&mut self, event: &Event) -> Result<()>;
}

/// A projection whose type is chosen at run time.
impl<P: Projection + ?Sized> Projection for Box<P> {
    fn filter(&self) -> Result<Filter> {
        (**self).filter()
    }

    fn apply(&mut self, event: &Event) -> Result<()> {
        (**self).apply(event)
    }
}

/// What a decision is based on: a [`Projection`], or several that are read together.
///
/// A tuple of models is a model, and so are `Vec`, array and `Option`. Each part keeps its own type and its own filter:
/// it receives the events that *its* filter matches, and no others. All parts are read in one query, in one snapshot of
/// the log, with the union of their filters. The union is never flattened: an event of one filter's type with another
/// filter's tag matches neither.
///
/// ```
/// # use mainstem::{AppendCondition, DecisionModel, Event, EventStore, Filter, MemoryEventStore, NewEvent, Projection, Result};
/// # struct Count(&'static str, usize);
/// # impl Projection for Count {
/// #     fn filter(&self) -> Result<Filter> { Filter::matching().all_tags_of([self.0]).finish() }
/// #     fn apply(&mut self, _event: &Event) -> Result<()> { self.1 += 1; Ok(()) }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> mainstem::Result<()> {
/// # let store = MemoryEventStore::new();
/// # store.append([NewEvent::new("StudentEnrolled", &())?.with_tag("course:1")], AppendCondition::none()).await?;
/// // How many are in the course, and how many courses has the student?
/// let read = (Count("course:1", 0), Count("student:7", 0)).read_from(&store).await?;
/// let (course, student) = read.state();
/// if course.1 < 30 && student.1 < 5 {
///     let enrolled = NewEvent::new("StudentEnrolled", &())?.with_tags(["course:1", "student:7"]);
///     // Refused if an event has come that would have changed either.
///     store.append([enrolled], read.unchanged()).await?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// Your own type with named parts lists them:
///
/// ```
/// # use mainstem::{DecisionModel, Event, Filter, Parts, Projection, Result};
/// # struct Count;
/// # impl Projection for Count {
/// #     fn filter(&self) -> Result<Filter> { Ok(Filter::any_event()) }
/// #     fn apply(&mut self, _event: &Event) -> Result<()> { Ok(()) }
/// # }
/// struct Enrolment {
///     course: Count,
///     student: Count,
/// }
///
/// impl DecisionModel for Enrolment {
///     fn parts<'a>(&'a mut self, parts: &mut Parts<'a>) {
///         self.course.parts(parts);
///         self.student.parts(parts);
///     }
/// }
/// ```
pub trait DecisionModel: Send {
    /// Lists the projections, always in the same order and number.
    fn parts<'a>(&'a mut self, parts: &mut Parts<'a>);

    /// Reads the events of all parts in one query, at the level of the scope, and applies them. Await the returned
    /// value; see [`ModelQuery`].
    ///
    /// The scope is read when this method is called.
    fn read_from(self, store: &dyn EventStore) -> ModelQuery<'_, Self>
    where
        Self: Sized,
    {
        ModelQuery::new(self, store)
    }

    /// Resumes from the model's last snapshot, reads the events appended since, and saves a new snapshot when it is
    /// due. Await the returned value; see [`Project`].
    ///
    /// Name and version are those of the [`SnapshotKey`], whose filter is the union of the parts' filters. The snapshot
    /// holds the whole model, including what it is about: so only a model that lists parts with the same filters in the
    /// same order and places finds it again, and a field that serde skips comes back as its default.
    ///
    /// ```
    /// # use mainstem::{DecisionModel, Event, Filter, MemoryEventStore, Projection, Result};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Shelf(u64);
    /// # impl Projection for Shelf {
    /// #     fn filter(&self) -> Result<Filter> { Ok(Filter::any_event()) }
    /// #     fn apply(&mut self, _event: &Event) -> Result<()> { self.0 += 1; Ok(()) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> mainstem::Result<()> {
    /// # let store = MemoryEventStore::new();
    /// let shelf = Shelf(0).resume_from(&store, "shelf", 1)?.save_every(500).await?;
    /// println!("{} books, {} events read", shelf.state().0, shelf.applied());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Projection::filter`], and [`InvalidInput`](crate::ErrorKind::InvalidInput) for a model without parts.
    fn resume_from<'a>(
        mut self,
        store: &'a dyn SnapshotStore,
        name: &str,
        version: u32,
    ) -> Result<ResumeModel<'a, Self>>
    where
        Self: Sized + 'a,
    {
        let boundary = Boundary::of(&mut self)?;
        let key = boundary.snapshot_key(name, version);
        let apply = move |model: &mut Self, event: &Event| boundary.apply(model, event);
        Ok(Project::new(store, key, self, Box::new(apply)))
    }

    /// Returns the key of the snapshots that [`resume_from`](Self::resume_from) loads and saves, for example to delete
    /// one.
    ///
    /// ```
    /// # use mainstem::{DecisionModel, Event, Filter, MemoryEventStore, Projection, Result, SnapshotStore};
    /// # struct Shelf(u64);
    /// # impl Projection for Shelf {
    /// #     fn filter(&self) -> Result<Filter> { Ok(Filter::any_event()) }
    /// #     fn apply(&mut self, _event: &Event) -> Result<()> { self.0 += 1; Ok(()) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> mainstem::Result<()> {
    /// # let store = MemoryEventStore::new();
    /// store.delete_snapshot(&(Shelf(0), Shelf(0)).snapshot_key("two shelves", 1)?).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Projection::filter`], and [`InvalidInput`](crate::ErrorKind::InvalidInput) for a model without parts.
    fn snapshot_key(&mut self, name: &str, version: u32) -> Result<SnapshotKey>
    where
        Self: Sized,
    {
        Ok(Boundary::of(self)?.snapshot_key(name, version))
    }

    /// Applies existing events, each to the parts whose filter it matches.
    ///
    /// Use it in tests, and for events from elsewhere.
    ///
    /// # Errors
    ///
    /// As for [`Projection::filter`] and [`Projection::apply`], and [`InvalidInput`](crate::ErrorKind::InvalidInput) for a model
    /// without parts.
    fn replay<'e>(mut self, events: impl IntoIterator<Item = &'e Event>) -> Result<Self>
    where
        Self: Sized,
    {
        let boundary = Boundary::of(&mut self)?;
        boundary.replay(&mut self, events)?;
        Ok(self)
    }
}

/// The projections of a [`DecisionModel`], as it lists them.
#[derive(Default)]
pub struct Parts<'a> {
    projections: Vec<&'a mut dyn Projection>,
    /// How many models each collection has, in the order in which they are listed. Together with the list of filters,
    /// it determines the place of each part.
    lengths: Vec<usize>,
}

impl<'a> Parts<'a> {
    /// The parts of a model.
    pub(super) fn of(model: &'a mut (impl DecisionModel + ?Sized)) -> Self {
        let mut parts = Parts::default();
        model.parts(&mut parts);
        parts
    }

    pub(super) fn filters(&self) -> Result<Vec<Filter>> {
        match &*self.projections {
            [] => Err(Error::invalid_input("the decision model has no parts; it needs at least one projection")),
            parts => parts.iter().map(|part| part.filter()).collect(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.projections.len()
    }

    pub(super) fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut &'a mut dyn Projection> {
        self.projections.iter_mut()
    }
}

impl std::fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("len", &self.len()).finish()
    }
}

impl<P: Projection> DecisionModel for P {
    fn parts<'a>(&'a mut self, parts: &mut Parts<'a>) {
        parts.projections.push(self);
    }
}

macro_rules! tuples {
    ($(($($model:ident),+))+) => { $(
        impl<$($model: DecisionModel),+> DecisionModel for ($($model,)+) {
            #[expect(non_snake_case, reason = "a name for each type parameter")]
            fn parts<'a>(&'a mut self, parts: &mut Parts<'a>) {
                let ($($model,)+) = self;
                $($model.parts(parts);)+
            }
        }
    )+ };
}

tuples! { (A) (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) (A, B, C, D, E, F) (A, B, C, D, E, F, G) (A, B, C, D, E, F, G, H) }

macro_rules! collections {
    ($(($collection:ty, $($parameters:tt)+))+) => { $(
        impl<$($parameters)+> DecisionModel for $collection {
            fn parts<'a>(&'a mut self, parts: &mut Parts<'a>) {
                parts.lengths.push(self.iter().len());
                self.iter_mut().for_each(|model| model.parts(parts));
            }
        }
    )+ };
}

collections! { (Vec<M>, M: DecisionModel) (Option<M>, M: DecisionModel) ([M; N], M: DecisionModel, const N: usize) }
