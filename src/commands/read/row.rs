//! What the table shows and the filters compare of a line, be it a review or an Event.

use crate::record::entry::{Entry, Event, Review, Run};
use crate::record::json::JsonStr;

#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) kind: Kind,
    /// RFC 3339.
    pub(super) time: Option<JsonStr<'a>>,
    pub(super) source: Option<JsonStr<'a>>,
    pub(super) user: Option<JsonStr<'a>>,
    /// The user that `user` impersonated. A review says only this one, as its user.
    pub(super) impersonated: Option<JsonStr<'a>>,
    pub(super) verb: Verb<'a>,
    pub(super) resource: Option<JsonStr<'a>>,
    pub(super) subresource: Option<JsonStr<'a>>,
    pub(super) namespace: Option<JsonStr<'a>>,
    pub(super) name: Option<JsonStr<'a>>,
    /// The path and query of an Event that is not about a resource.
    pub(super) uri: Option<JsonStr<'a>>,
    pub(super) run: Run,
    /// An Event's stage, unless the request was complete. A review has none.
    pub(super) unfinished: Option<JsonStr<'a>>,
    /// The HTTP status with which an Event's request was refused or failed. A review does not know it.
    pub(super) failed: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Review,
    Event,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Verb<'a> {
    /// A review's operation, in lower case.
    Known(&'static str),
    /// An Event's verb, or an operation that Kubernetes does not have.
    Said(JsonStr<'a>),
}

impl<'a> Row<'a> {
    pub(super) fn of(entry: &Entry<'a>) -> Self {
        match entry {
            Entry::Review(review) => Self::of_review(review),
            Entry::Event(event) => Self::of_event(event),
        }
    }

    fn of_review(review: &Review<'a>) -> Self {
        let operation = review.operation.unwrap_or_default();
        let known = ["create", "update", "delete", "connect"];
        let verb = known.into_iter().find(|verb| operation.is(&verb.to_uppercase()));
        Self {
            kind: Kind::Review,
            time: review.received,
            source: review.source,
            user: review.username,
            impersonated: None,
            verb: verb.map_or(Verb::Said(operation), Verb::Known),
            resource: review.resource.resource,
            subresource: review.subresource,
            namespace: review.namespace,
            // Reviews of a deletecollection have no `name`: it stands in the object only.
            name: review.name.or(review.object_name),
            uri: None,
            run: review.run,
            unfinished: None,
            failed: None,
        }
    }

    fn of_event(event: &Event<'a>) -> Self {
        let dry = event.uri.is_some_and(|uri| {
            let (_, query) = split_once(uri.escaped(), b'?').unwrap_or_default();
            query.split(|byte| *byte == b'&').any(|pair| pair.starts_with(b"dryRun=All"))
                // Go writes & as an escape.
                || query.windows(16).any(|it| it == br"\u0026dryRun=All")
        });
        Self {
            kind: Kind::Event,
            time: event.received,
            source: event.source,
            user: event.username,
            impersonated: event.impersonated,
            verb: Verb::Said(event.verb.unwrap_or_default()),
            resource: event.resource,
            subresource: event.subresource,
            namespace: event.namespace,
            name: event.name,
            uri: event.uri.filter(|_| event.resource.is_none()),
            run: if dry { Run::Dry } else { Run::Real },
            unfinished: event.stage.filter(|stage| !stage.is("ResponseComplete")),
            failed: event.code.filter(|code| *code >= 400),
        }
    }
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = bytes.iter().position(|byte| *byte == at)?;
    Some((bytes.get(..place)?, bytes.get(place + 1..)?))
}
