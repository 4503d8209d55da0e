//! Why a body is refused with 400.

use std::fmt;

use crate::record::json;

/// What is wrong with a body. `Display` is one line for the client, which quotes nothing of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// The body is empty or white space.
    Empty,
    /// The body is not JSON (RFC 8259), or nested too deep.
    Json(json::Error),
    /// AdmissionReviews are taken here, and the JSON is something else.
    NotAReview,
    /// EventLists and Events are taken here, and the JSON is something else.
    NotAnEventList,
    /// AdmissionReviews are taken here, and it is an EventList.
    EventListForReview,
    /// EventLists are taken here, and it is an AdmissionReview.
    ReviewForEventList,
    /// The AdmissionReview is of an unknown version.
    ReviewVersion,
    /// The EventList or Event is of an unknown version.
    EventListVersion,
    /// A member that is looked into stands there twice, and readers of the line might differ on which one counts.
    Twice(&'static str),
    /// `request` is missing or not an object.
    Request,
    /// `request.uid` is missing, not a string, or empty.
    Uid,
    /// `request.uid` would make the reply too long.
    LongUid,
    /// `items` is missing, or neither an array nor null.
    Items,
    /// An item is not an object.
    Item,
    /// The items are so small that their lines would be several times as large as the list.
    ManySmallItems,
    /// Several Events follow each other, each a document of its own (NDJSON).
    SeveralEvents,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the body is empty",
            Self::Json(error) => return write!(f, "the body is not JSON: {error}"),
            Self::NotAReview => "not an AdmissionReview",
            Self::NotAnEventList => "not an EventList",
            Self::EventListForReview => "not an AdmissionReview: an EventList goes to /audit-events",
            Self::ReviewForEventList => "not an EventList: an AdmissionReview goes to /log-request",
            Self::ReviewVersion => "apiVersion is not admission.k8s.io/v1 or admission.k8s.io/v1beta1",
            Self::EventListVersion => "apiVersion is not audit.k8s.io/v1, the version wanted here",
            Self::Twice(member) => return write!(f, "{member} stands there twice"),
            Self::Request => "no request, or it is not an object",
            Self::Uid => "no request.uid, or it is not a string with something in it",
            Self::LongUid => "request.uid is longer than 4,096 bytes",
            Self::Items => "no items, or they are not an array",
            Self::Item => "one of the items is not an object",
            Self::ManySmallItems => "too many items for the list's size",
            Self::SeveralEvents => "NDJSON is not taken: several Events are sent as one EventList",
        })
    }
}

impl std::error::Error for Invalid {}

impl From<json::Error> for Invalid {
    fn from(error: json::Error) -> Self {
        Self::Json(error)
    }
}

/// Puts `value` into `place`; an error if `member` was there before.
pub(crate) fn once<T>(member: &'static str, place: &mut Option<T>, value: T) -> Result<(), Invalid> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Invalid::Twice(member)),
    }
}
