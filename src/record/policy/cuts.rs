//! What a level leaves out, as ranges of bytes of the compacted JSON.
//!
//! Whether a member stays is known only when the whole request has been read, for what rules ask about may stand behind
//! it. So the one pass notes where the members stand that may have to go, and the decision cuts them out.

use std::ops::Range;

use super::{Decision, Level, ManagedFields};
use crate::record::json::Fate;

/// Members that go or stay together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Of a review's `object`, all that is not its identity.
    Object,
    /// Of a review's `oldObject`, the same.
    OldObject,
    /// `metadata.managedFields` of a review's `object` or an Event's `requestObject`.
    ManagedFields,
    /// `metadata.managedFields` of a review's `oldObject` or an Event's `responseObject`.
    OtherManagedFields,
    /// An Event's `requestObject` and `responseObject`.
    EventObjects,
    /// An Event's `responseObject`.
    EventResponse,
}

/// What is left out of one review or Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reduction {
    pub(crate) level: Level,
    pub(crate) managed_fields: ManagedFields,
    /// Whether the review's `object` is an object at all: a CONNECT's is what the request's path says.
    pub(crate) object: ReviewObject,
}

/// What a review's `object` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReviewObject {
    /// What is written to the cluster.
    Written,
    /// The options of a CONNECT, such as the command of an exec. They stand in the request's path, which the API server
    /// logs at each level.
    Options,
}

impl Reduction {
    /// What `decision` leaves out of an Event, or of a review whose `object` is written to the cluster.
    pub(crate) fn of(decision: &Decision) -> Self {
        Self { level: decision.level, managed_fields: decision.managed_fields, object: ReviewObject::Written }
    }

    fn leaves_out(self, part: Part) -> bool {
        let omits = self.managed_fields == ManagedFields::Omit;
        match part {
            Part::Object => self.level < Level::Request && self.object == ReviewObject::Written,
            Part::OldObject => self.level < Level::RequestResponse,
            Part::ManagedFields => omits && self.level >= Level::Request,
            Part::OtherManagedFields => omits && self.level >= Level::RequestResponse,
            Part::EventObjects => self.level < Level::Request,
            Part::EventResponse => self.level == Level::Request,
        }
    }

    /// Whether there is anything that it leaves out.
    pub(crate) fn is_any(self) -> bool {
        self.level < Level::RequestResponse || self.managed_fields == ManagedFields::Omit
    }
}

/// How many ranges are noted for a review or Event. Objects of the API server have about five each, and a list one for
/// each of its items; where there are more, the text is read a second time instead ([`Walk::Drop`]), so that what is
/// noted needs neither an allocation nor a limit on what is taken.
const MOST: usize = 64;

/// The ranges that may have to go. Those of one part are in the order of the text and do not overlap.
#[derive(Debug)]
pub(crate) struct Cuts {
    noted: [(Part, usize, usize); MOST],
    /// How many there are; more than [`MOST`]: not all were noted.
    count: usize,
}

impl Cuts {
    pub(crate) fn new() -> Self {
        Self { noted: [(Part::Object, 0, 0); MOST], count: 0 }
    }

    fn note(&mut self, part: Part, range: Range<usize>) {
        if let Some(next) = self.noted.get_mut(self.count) {
            *next = (part, range.start, range.end);
        }
        self.count += 1;
    }

    /// The ranges that go, in the order of the text.
    pub(crate) fn of(&self, reduction: Reduction) -> impl Iterator<Item = Range<usize>> {
        let noted = self.noted.get(..self.count.min(MOST)).unwrap_or_default();
        noted.iter().filter(move |(part, ..)| reduction.leaves_out(*part)).map(|&(_, start, end)| start..end)
    }

    /// Takes the ranges out of `text` and returns its new length. `offset` is where `text` begins, in the positions that
    /// were noted.
    pub(crate) fn apply(&self, reduction: Reduction, text: &mut [u8], offset: usize) -> usize {
        let mut kept = 0;
        let mut behind = 0;
        let end = offset + text.len();
        for range in self.of(reduction).chain(std::iter::once(end..end)) {
            let stays = behind..range.start - offset;
            behind = range.end - offset;
            let length = stays.len();
            if stays.start != kept {
                text.copy_within(stays, kept);
            }
            kept += length;
        }
        kept
    }
}

/// What a pass over the text does with members that may have to go.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it lives on the stack of one call, and what is large is the usual one")]
pub(crate) enum Walk {
    /// It leaves them where they are and notes where that is.
    Note(Cuts),
    /// It leaves out those that go.
    Drop(Reduction),
}

impl Walk {
    /// The ranges that were noted, if there was room for all of them.
    pub(crate) fn noted(&self) -> Option<&Cuts> {
        match self {
            Self::Note(cuts) if cuts.count <= MOST => Some(cuts),
            _ => None,
        }
    }
}

/// The members of one object that belong to a part, and those that do not. Neighbours that may go form one gap, which
/// takes a comma with it.
pub(super) struct Gaps {
    part: Part,
    /// Where the first member stands or would stand.
    start: usize,
    /// Where the last member ends that stays; `start` if there is none.
    kept: usize,
    /// Where the last member ends; beyond `kept` if it may go.
    last: usize,
}

impl Gaps {
    /// `start` is where the object's opening brace ends, in the compacted text.
    pub(super) fn new(part: Part, start: usize) -> Self {
        Self { part, start, kept: start, last: start }
    }

    /// To be called before a member's value is read. A gap that ends before the member is noted now, and so before what
    /// may go inside of its value: ranges are noted in the order of the text.
    pub(super) fn before_member(&mut self, part: Option<Part>, walk: &mut Walk) {
        if part != Some(self.part)
            && let Walk::Note(cuts) = walk
        {
            // Where nothing stays before the gap, the comma behind it goes, else the one before it.
            let comma = usize::from(self.kept == self.start);
            self.note(comma, cuts);
        }
    }

    /// To be called after the value was read, with where it ends. If the member may go, `part` is ours.
    pub(super) fn after_member(&mut self, part: Option<Part>, end: usize, walk: &Walk) -> Fate {
        let may_go = part == Some(self.part);
        if let Walk::Drop(reduction) = walk
            && may_go
            && reduction.leaves_out(self.part)
        {
            return Fate::Drop;
        }
        if !may_go {
            self.kept = end;
        }
        self.last = end;
        Fate::Keep
    }

    /// Takes note of the end of the object.
    pub(super) fn end(&self, walk: &mut Walk) {
        if let Walk::Note(cuts) = walk {
            self.note(0, cuts);
        }
    }

    fn note(&self, comma: usize, cuts: &mut Cuts) {
        if self.kept < self.last {
            cuts.note(self.part, self.kept..self.last + comma);
        }
    }
}
