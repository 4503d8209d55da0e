//! Where the texts that rules ask about stand in compacted JSON, noted while it is read.

use std::borrow::Cow;
use std::ops::Range;

use super::attributes::{Groups, decoded};
use crate::record::json::{Compactor, Error, Fate};

/// Where a string stands in the compacted text, with its quotes. Empty: the value is no string, and counts as absent.
pub(super) type Spot = Range<usize>;

/// Whether what rules ask about can be read in more than one way. Nothing that an API server sends can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It can be read in one way only.
    #[default]
    None,
    /// A member stands there twice, or a group is no string: the review or Event is recorded completely.
    Some,
}

/// Puts `value` into `place`. If a value is there already, there is a doubt about which of the two counts.
pub(super) fn note<T>(place: &mut Option<T>, value: T, doubt: &mut Doubt) {
    if place.replace(value).is_some() {
        *doubt = Doubt::Some;
    }
}

/// Reads a value of any kind; if it is a string, returns where it stands.
pub(super) fn read_text(json: &mut Compactor<'_>) -> Result<Spot, Error> {
    if !json.next_is(b'"')? {
        json.skip()?;
        return Ok(0..0);
    }
    json.string()
}

/// Where a user's name and groups stand.
#[derive(Clone, Debug, Default)]
pub(super) struct UserNotes {
    pub(super) name: Option<Spot>,
    /// The whole array.
    pub(super) groups: Option<Range<usize>>,
}

impl UserNotes {
    /// Reads a UserInfo, or whatever stands in its place.
    pub(super) fn read(json: &mut Compactor<'_>, doubt: &mut Doubt) -> Result<Self, Error> {
        let mut user = Self::default();
        if !json.next_is(b'{')? {
            json.skip()?;
            return Ok(user);
        }
        json.members(&["username", "groups"], |json, name| -> Result<Fate, Error> {
            match name {
                Some("username") => note(&mut user.name, read_text(json)?, doubt),
                Some("groups") if json.next_is(b'[')? => note(&mut user.groups, read_groups(json, doubt)?, doubt),
                _ => json.skip()?,
            }
            Ok(Fate::Keep)
        })?;
        Ok(user)
    }
}

fn read_groups(json: &mut Compactor<'_>, doubt: &mut Doubt) -> Result<Range<usize>, Error> {
    let start = json.position();
    json.elements(|json| -> Result<(), Error> {
        if read_text(json)?.is_empty() {
            *doubt = Doubt::Some;
        }
        Ok(())
    })?;
    Ok(start..json.position())
}

/// Where the names of a resource stand.
#[derive(Clone, Debug, Default)]
pub(super) struct ResourceNotes {
    pub(super) group: Option<Spot>,
    pub(super) resource: Option<Spot>,
    pub(super) subresource: Option<Spot>,
    pub(super) namespace: Option<Spot>,
    pub(super) name: Option<Spot>,
}

impl ResourceNotes {
    /// Reads a GroupVersionResource, or whatever stands in its place.
    pub(super) fn read_gvr(json: &mut Compactor<'_>, doubt: &mut Doubt) -> Result<Self, Error> {
        if !json.next_is(b'{')? {
            json.skip()?;
            return Ok(Self::default());
        }
        Self::read(json, "group", doubt)
    }

    /// Reads an Event's ObjectReference, which is an object.
    pub(super) fn read_reference(json: &mut Compactor<'_>, doubt: &mut Doubt) -> Result<Self, Error> {
        Self::read(json, "apiGroup", doubt)
    }

    fn read(json: &mut Compactor<'_>, group: &'static str, doubt: &mut Doubt) -> Result<Self, Error> {
        let mut resource = Self::default();
        let names = ["resource", "namespace", "name", "subresource", group];
        json.members(&names, |json, name| -> Result<Fate, Error> {
            match name {
                Some("resource") => note(&mut resource.resource, read_text(json)?, doubt),
                Some("namespace") => note(&mut resource.namespace, read_text(json)?, doubt),
                Some("name") => note(&mut resource.name, read_text(json)?, doubt),
                Some("subresource") => note(&mut resource.subresource, read_text(json)?, doubt),
                Some(_) => note(&mut resource.group, read_text(json)?, doubt),
                None => json.skip()?,
            }
            Ok(Fate::Keep)
        })?;
        Ok(resource)
    }
}

/// A compacted text, for looking up what was noted.
pub(super) struct Texts<'t> {
    pub(super) text: &'t [u8],
    /// Where `text` begins, in the positions that were noted.
    pub(super) offset: usize,
}

impl<'t> Texts<'t> {
    fn get(&self, range: &Range<usize>) -> Option<&'t [u8]> {
        self.text.get(range.start.checked_sub(self.offset)?..range.end.checked_sub(self.offset)?)
    }

    /// "" where there is no string.
    pub(super) fn at(&self, spot: &Option<Spot>) -> Cow<'t, str> {
        spot.as_ref().and_then(|spot| self.get(spot)).map_or(Cow::Borrowed(""), decoded)
    }

    /// A user's name and groups.
    pub(super) fn user(&self, user: &Option<UserNotes>) -> (Cow<'t, str>, Groups<'t>) {
        let Some(user) = user else { return (Cow::Borrowed(""), Groups::default()) };
        let groups = user.groups.as_ref().and_then(|range| self.get(range));
        (self.at(&user.name), groups.map_or_else(Groups::default, Groups::new))
    }
}
