//! A line of the audit log -> what it says: an AdmissionReview or an audit Event, as slices of the line.
//!
//! The member that stands last counts where one stands there twice, as for jq and Go.

use crate::record::json::reader::Reader;
use crate::record::json::{Error, JsonStr};

/// What a line is.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// An AdmissionReview.
    Review(Review<'a>),
    /// An audit Event.
    Event(Event<'a>),
}

/// What the request of an `admission.k8s.io` AdmissionReview says, and what was added when it was recorded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Review<'a> {
    /// `request.uid`.
    pub uid: Option<JsonStr<'a>>,
    /// What the client asked for: `requestResource`, else `resource`.
    pub resource: Resource<'a>,
    /// `requestSubResource`, else `subResource`; empty is none.
    pub subresource: Option<JsonStr<'a>>,
    /// Absent for a DELETE that is part of a deletecollection.
    pub name: Option<JsonStr<'a>>,
    /// Absent for what is cluster-scoped, except for a Namespace, where it is its name.
    pub namespace: Option<JsonStr<'a>>,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: Option<JsonStr<'a>>,
    /// `userInfo`, with its braces: the user in effect, after impersonation.
    pub user: Option<&'a [u8]>,
    /// `userInfo.username`.
    pub username: Option<JsonStr<'a>>,
    /// `object`, with its braces: the whole of it or, under a policy, what the policy left.
    pub object: Option<&'a [u8]>,
    /// `metadata.name` of `object`, else of `oldObject`.
    pub object_name: Option<JsonStr<'a>>,
    /// `options`, with its braces.
    pub options: Option<&'a [u8]>,
    /// `dryRun`.
    pub run: Run,
    /// The level that a policy recorded it at.
    pub level: Option<JsonStr<'a>>,
    /// The name of the source that sent it; absent without a sources file.
    pub source: Option<JsonStr<'a>>,
    /// When it was received, RFC 3339.
    pub received: Option<JsonStr<'a>>,
}

/// Whether a request was made in earnest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Run {
    /// It was to be carried out.
    #[default]
    Real,
    /// A dry run: nothing was to be stored.
    Dry,
}

/// A GroupVersionResource.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resource<'a> {
    /// Empty for the core group.
    pub group: Option<JsonStr<'a>>,
    /// `v1`, for example.
    pub version: Option<JsonStr<'a>>,
    /// The plural, as in a path.
    pub resource: Option<JsonStr<'a>>,
}

/// What an `audit.k8s.io` Event says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Event<'a> {
    /// `user.username`: who authenticated.
    pub username: Option<JsonStr<'a>>,
    /// `impersonatedUser.username`.
    pub impersonated: Option<JsonStr<'a>>,
    /// `create`, `patch`, `get`, ...
    pub verb: Option<JsonStr<'a>>,
    /// Path and query.
    pub uri: Option<JsonStr<'a>>,
    /// `objectRef.resource`; absent, like the next three, for a request that is not about a resource.
    pub resource: Option<JsonStr<'a>>,
    /// `objectRef.subresource`: `log`, `status`, ...
    pub subresource: Option<JsonStr<'a>>,
    /// `objectRef.name`; absent for a list or a create.
    pub name: Option<JsonStr<'a>>,
    /// `objectRef.namespace`; absent for what is cluster-scoped.
    pub namespace: Option<JsonStr<'a>>,
    /// `RequestReceived`, `ResponseStarted`, `ResponseComplete` or `Panic`.
    pub stage: Option<JsonStr<'a>>,
    /// `responseStatus.code`, an HTTP status; absent at the stage RequestReceived.
    pub code: Option<u16>,
    /// The name of the source that sent it; absent without a sources file.
    pub source: Option<JsonStr<'a>>,
    /// `requestReceivedTimestamp`, else `stageTimestamp`: RFC 3339.
    pub received: Option<JsonStr<'a>>,
}

/// Why a line is none of the audit log's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEntry {
    /// Not one JSON document: torn, or damaged.
    Json(Error),
    /// JSON, but neither an AdmissionReview nor an Event.
    OtherKind,
}

impl From<Error> for NoEntry {
    fn from(error: Error) -> Self {
        Self::Json(error)
    }
}

impl std::fmt::Display for NoEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Json(error) => write!(f, "not JSON: {error}"),
            Self::OtherKind => f.write_str("neither an AdmissionReview nor an Event"),
        }
    }
}

/// Reads a line, with or without its newline.
///
/// # Errors
/// It is no JSON object, something follows it, or its `kind` is another one.
pub fn read(line: &[u8]) -> Result<Entry<'_>, NoEntry> {
    let mut kind = None;
    let mut review = Review::default();
    let mut event = Event::default();
    let (mut received, mut staged, mut source, mut level) = (None, None, None, None);
    let mut json = Reader::new(line);
    json.members(|json, name| {
        match name {
            b"kind" => kind = json.text_if_string()?,
            b"request" => {
                review = Review::default();
                read_request(json, &mut review)?;
            }
            b"level" => level = json.text_if_string()?,
            b"source" => source = json.text_if_string()?,
            b"requestReceivedTimestamp" => received = json.text_if_string()?,
            b"stageTimestamp" => staged = json.text_if_string()?,
            b"stage" => event.stage = json.text_if_string()?,
            b"verb" => event.verb = json.text_if_string()?,
            b"requestURI" => event.uri = json.text_if_string()?,
            b"user" => event.username = json.text_of(b"username")?,
            b"impersonatedUser" => event.impersonated = json.text_of(b"username")?,
            b"responseStatus" => json.members_if_object(|json, name| {
                let value = json.value()?;
                if name == b"code" {
                    event.code = str::from_utf8(value).ok().and_then(|code| code.parse().ok());
                }
                Ok(())
            })?,
            b"objectRef" => json.members_if_object(|json, name| {
                match name {
                    b"resource" => event.resource = some(json)?,
                    b"subresource" => event.subresource = some(json)?,
                    b"name" => event.name = some(json)?,
                    b"namespace" => event.namespace = some(json)?,
                    _ => drop(json.value()?),
                }
                Ok(())
            })?,
            _ => drop(json.value()?),
        }
        Ok(())
    })?;
    json.finish()?;
    match kind {
        Some(kind) if kind.is("AdmissionReview") => Ok(Entry::Review(Review { received, source, level, ..review })),
        Some(kind) if kind.is("Event") => Ok(Entry::Event(Event { received: received.or(staged), source, ..event })),
        _ => Err(NoEntry::OtherKind),
    }
}

fn read_request<'a>(json: &mut Reader<'a>, review: &mut Review<'a>) -> Result<(), Error> {
    let (mut asked, mut asked_subresource) = (Resource::default(), None);
    let mut old_name = None;
    json.members_if_object(|json, name| {
        match name {
            b"uid" => review.uid = some(json)?,
            b"resource" => review.resource = read_resource(json)?,
            b"requestResource" => asked = read_resource(json)?,
            b"subResource" => review.subresource = some(json)?,
            b"requestSubResource" => asked_subresource = some(json)?,
            b"name" => review.name = some(json)?,
            b"namespace" => review.namespace = some(json)?,
            b"operation" => review.operation = some(json)?,
            b"userInfo" => {
                let user = json.value()?;
                review.username = Reader::new(user).text_of(b"username")?;
                review.user = object(user);
            }
            b"object" => (review.object, review.object_name) = read_object(json)?,
            b"oldObject" => old_name = read_object(json)?.1,
            b"options" => review.options = object(json.value()?),
            b"dryRun" => review.run = if json.value()? == b"true" { Run::Dry } else { Run::Real },
            _ => drop(json.value()?),
        }
        Ok(())
    })?;
    if asked.resource.is_some() {
        review.resource = asked;
        review.subresource = asked_subresource;
    }
    review.object_name = review.object_name.or(old_name);
    Ok(())
}

fn read_resource<'a>(json: &mut Reader<'a>) -> Result<Resource<'a>, Error> {
    let mut found = Resource::default();
    json.members_if_object(|json, name| {
        match name {
            b"group" => found.group = some(json)?,
            b"version" => found.version = some(json)?,
            b"resource" => found.resource = some(json)?,
            _ => drop(json.value()?),
        }
        Ok(())
    })?;
    Ok(found)
}

/// An object of the Kubernetes API, and its `metadata.name`.
fn read_object<'a>(json: &mut Reader<'a>) -> Result<(Option<&'a [u8]>, Option<JsonStr<'a>>), Error> {
    let start = json.position()?;
    let mut found = None;
    json.members_if_object(|json, name| {
        match name {
            b"metadata" => found = json.text_of(b"name")?.filter(|name| !name.is_empty()),
            _ => drop(json.value()?),
        }
        Ok(())
    })?;
    Ok((object(json.since(start)), found))
}

/// Reads a value; a string that is empty counts as absent, as in the API.
fn some<'a>(json: &mut Reader<'a>) -> Result<Option<JsonStr<'a>>, Error> {
    Ok(json.text_if_string()?.filter(|text| !text.is_empty()))
}

/// The value, if it is an object.
fn object(value: &[u8]) -> Option<&[u8]> {
    Some(value).filter(|value| value.starts_with(b"{"))
}
