//! An Event, read for its policy: what rules ask about, and what may be left out.

use std::borrow::Cow;
use std::ops::Range;

use super::attributes::{Attributes, Resource, Target};
use super::cuts::{Gaps, Part, Walk};
use super::noted::{Doubt, ResourceNotes, Spot, Texts, UserNotes, note, read_text};
use super::{Decision, Level, Policy, Stage, objects};
use crate::record::json::{Compactor, Error, Fate};

/// The members of an event that are looked into: the first four always, the others for a policy.
pub(crate) const NAMES: [&str; 12] = [
    "kind",
    "apiVersion",
    "source",
    "chain",
    "level",
    "stage",
    "requestURI",
    "verb",
    "user",
    "objectRef",
    "requestObject",
    "responseObject",
];

/// Where in the compacted text the values stand that rules ask about.
pub(crate) struct EventNotes {
    level: Option<Spot>,
    stage: Option<Spot>,
    request_uri: Option<Spot>,
    verb: Option<Spot>,
    user: Option<UserNotes>,
    object_ref: Option<ResourceNotes>,
    doubt: Doubt,
    objects: Gaps,
    response: Gaps,
    /// What is done with members that may have to go.
    pub(crate) walk: Walk,
}

/// Whether the policy's level is lower than the one at which the API server recorded an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lowered {
    /// The Event's `level` is to say the policy's.
    Yes,
    /// It stays as it is.
    No,
}

impl EventNotes {
    /// `start` is where the Event's opening brace ends, in the compacted text.
    pub(crate) fn new(start: usize, walk: Walk) -> Self {
        Self {
            level: None,
            stage: None,
            request_uri: None,
            verb: None,
            user: None,
            object_ref: None,
            doubt: Doubt::None,
            objects: Gaps::new(Part::EventObjects, start),
            response: Gaps::new(Part::EventResponse, start),
            walk,
        }
    }

    /// Reads a member's value. `name` is the member's if it is one of [`NAMES`].
    pub(crate) fn member(&mut self, name: Option<&'static str>, json: &mut Compactor<'_>) -> Result<Fate, Error> {
        let response = (name == Some("responseObject")).then_some(Part::EventResponse);
        let objects = matches!(name, Some("requestObject" | "responseObject")).then_some(Part::EventObjects);
        let Self { doubt, walk, .. } = self;
        self.objects.before_member(objects, walk);
        self.response.before_member(response, walk);
        match name {
            Some("level") => note(&mut self.level, read_text(json)?, doubt),
            Some("stage") => note(&mut self.stage, read_text(json)?, doubt),
            Some("requestURI") => note(&mut self.request_uri, read_text(json)?, doubt),
            Some("verb") => note(&mut self.verb, read_text(json)?, doubt),
            Some("user") => note(&mut self.user, UserNotes::read(json, doubt)?, doubt),
            Some("objectRef") if json.next_is(b'{')? => {
                note(&mut self.object_ref, ResourceNotes::read_reference(json, doubt)?, doubt);
            }
            Some("requestObject") => objects::read(json, None, Part::ManagedFields, walk)?,
            Some("responseObject") => objects::read(json, None, Part::OtherManagedFields, walk)?,
            _ => json.skip()?,
        }
        let end = json.position();
        let fates = [self.objects.after_member(objects, end, walk), self.response.after_member(response, end, walk)];
        Ok(if fates.contains(&Fate::Drop) { Fate::Drop } else { Fate::Keep })
    }

    /// Takes note of the end of the Event.
    pub(crate) fn end(&mut self) {
        self.objects.end(&mut self.walk);
        self.response.end(&mut self.walk);
    }

    /// What the policy says of the Event. `text` is its compacted text; `offset` is where it begins, in the positions that
    /// were noted.
    ///
    /// The level is the lower of the policy's and the one at which the API server recorded it. An Event whose stage the
    /// policy omits is at level None. One that says a level which no recorded Event has (None, or none at all) is at the
    /// policy's: what a sender writes there cannot keep it out of the log.
    pub(crate) fn decide(&self, policy: &Policy, text: &[u8], offset: usize) -> (Decision, Lowered) {
        if self.doubt == Doubt::Some {
            return (Decision::COMPLETE, Lowered::No);
        }
        let texts = Texts { text, offset };
        let mut decision = policy.decide(&self.attributes(&texts));
        let stage = Stage::from_name(&texts.at(&self.stage));
        if stage.is_some_and(|stage| policy.omits(&decision, stage)) {
            decision.level = Level::None;
        }
        let recorded = Level::from_name(&texts.at(&self.level)).filter(|level| *level != Level::None);
        match recorded {
            Some(recorded) if decision.level < recorded => (decision, Lowered::Yes),
            Some(recorded) => (Decision { level: recorded, ..decision }, Lowered::No),
            None => (decision, Lowered::No),
        }
    }

    /// Where the text of `level` stands, without its quotes.
    pub(crate) fn level(&self) -> Option<Range<usize>> {
        let quoted = self.level.as_ref().filter(|quoted| !quoted.is_empty())?;
        Some(quoted.start + 1..quoted.end - 1)
    }

    fn attributes<'t>(&self, texts: &Texts<'t>) -> Attributes<'t> {
        let verb = texts.at(&self.verb);
        let target = match &self.object_ref {
            Some(object) => {
                let subresource = texts.at(&object.subresource);
                // Upstream decides before it reads the body, and fills in the new object's name afterwards.
                let unnamed = verb == "create" && subresource.is_empty();
                Target::Resource(Resource {
                    group: texts.at(&object.group),
                    resource: texts.at(&object.resource),
                    subresource,
                    namespace: texts.at(&object.namespace),
                    name: if unnamed { Cow::Borrowed("") } else { texts.at(&object.name) },
                })
            }
            None => Target::Path(path_of(texts.at(&self.request_uri))),
        };
        let (user, groups) = texts.user(&self.user);
        Attributes { user, groups, verb, target }
    }
}

/// The path of a request's URI: without its query, and percent-decoded (RFC 3986) as Go's `URL.Path` is. A `%` that
/// begins no escape stays.
fn path_of(uri: Cow<'_, str>) -> Cow<'_, str> {
    if let Cow::Borrowed(uri) = uri
        && let Some(path) = uri.split('?').next()
        && !path.contains('%')
    {
        return Cow::Borrowed(path);
    }
    let path = uri.split('?').next().unwrap_or_default();
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        match rest {
            [b'%', high, low, behind @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                decoded.push(hex_digit(*high) << 4 | hex_digit(*low));
                rest = behind;
            }
            _ => {
                decoded.push(byte);
                rest = behind;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}
