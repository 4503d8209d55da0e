//! Why a body is refused.

use std::fmt;

use crate::record::json;

/// What is wrong with the body of a request: its `Display` is one line for the client, which quotes nothing of the
/// body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// There is nothing but white space.
    Empty,
    /// It is not JSON as RFC 8259 has it, or nested too deep.
    Json(json::Error),
    /// It is JSON, but no document of the kind that is taken here.
    NotAReview,
    /// The same.
    NotAnEventList,
    /// An EventList where AdmissionReviews are taken.
    EventListForReview,
    /// An AdmissionReview where EventLists are taken.
    ReviewForEventList,
    /// An AdmissionReview of another version.
    ReviewVersion,
    /// An EventList of another version.
    EventListVersion,
    /// A member that is read stands there twice: which of the two counts would be a matter of taste.
    Twice(&'static str),
    /// `request` is missing or no object.
    Request,
    /// `request.uid` is missing, no string, or empty.
    Uid,
    /// `request.uid` is so long that the reply would be, too.
    LongUid,
    /// `items` is missing or no array.
    Items,
    /// An item is no object.
    Item,
    /// Items so small that their lines would be several times as large as the list.
    ManySmallItems,
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
        })
    }
}

impl std::error::Error for Invalid {}

impl From<json::Error> for Invalid {
    fn from(error: json::Error) -> Self {
        Self::Json(error)
    }
}

/// Sets what must not be there twice.
pub(crate) fn once<T>(member: &'static str, place: &mut Option<T>, value: T) -> Result<(), Invalid> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Invalid::Twice(member)),
    }
}
