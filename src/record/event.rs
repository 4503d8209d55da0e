//! An AdmissionReview -> an `audit.k8s.io/v1` Event, for tools that read an API server's own audit log.
//!
//! What a review does not tell is left out or inferred, and what is inferred is named in the annotation
//! `kube-audit-rest/inferred`. The members stand in the order in which an API server writes them.
//!
//! | of the Event | from |
//! |---|---|
//! | `level` | `Metadata` where a policy recorded the review so, else `Request` |
//! | `auditID` | the review's uid: inferred |
//! | `stage` | `ResponseComplete`, for exec, attach and portforward `ResponseStarted`: inferred |
//! | `requestURI` | resource, namespace and name; the query only of exec and the like, and of dry runs: inferred |
//! | `verb` | the operation; named in `kube-audit-rest/verb` with the others that it may have been |
//! | `user` | `userInfo`: the user in effect; who impersonated it is not known |
//! | `objectRef` | the same, without uid and resourceVersion |
//! | `responseStatus` | 201 for a create, 101 for exec and the like, else 200: inferred |
//! | `requestObject` | the object as admitted, not as sent: inferred |
//! | `requestReceivedTimestamp`, `stageTimestamp` | when the review came: inferred |
//! | `authorization.k8s.io/decision` | `allow`: what is not allowed is never reviewed |
//! | `sourceIPs`, `userAgent`, `responseObject` | absent |

use std::io::{self, Write};

use crate::record::entry::{Review, Run};
use crate::record::json::reader::Reader;
use crate::record::json::{Error, JsonStr};
use crate::record::timestamp::RFC3339_LENGTH;

/// What the API server is asked for, and what its log calls it.
struct Request {
    verb: &'static str,
    /// All that it may have been, where that is not certain.
    candidates: Option<&'static str>,
    stage: &'static str,
    code: &'static str,
    path: Path,
}

/// What the path ends with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Path {
    /// The resource, without a name: a create or a deletecollection.
    Collection,
    /// The name, and a subresource if there is one.
    Object,
}

impl Request {
    fn of(review: &Review<'_>) -> Self {
        let subresource = |wanted: &[&str]| review.subresource.is_some_and(|it| wanted.iter().any(|text| it.is(text)));
        let operation = |wanted| review.operation.is_some_and(|it| it.is(wanted));
        let plain =
            Self { verb: "update", candidates: None, stage: "ResponseComplete", code: "200", path: Path::Object };
        if operation("CREATE") {
            let path = if review.subresource.is_some() { Path::Object } else { Path::Collection };
            match applied(review) {
                Ok(true) => Self { verb: "patch", candidates: Some("create|patch"), code: "201", ..plain },
                _ => Self { verb: "create", code: "201", path, ..plain },
            }
        } else if operation("DELETE") && review.name.is_none() {
            Self { verb: "deletecollection", path: Path::Collection, ..plain }
        } else if operation("DELETE") {
            Self { verb: "delete", ..plain }
        } else if operation("CONNECT") && subresource(&["exec", "attach", "portforward"]) {
            let (verb, candidates) = ("create", Some("create|get"));
            Self { verb, candidates, stage: "ResponseStarted", code: "101", ..plain }
        } else if operation("CONNECT") {
            Self { verb: "get", candidates: Some("get|create|update|patch|delete"), ..plain }
        } else {
            let verb = if let Ok(true) = applied(review) { "patch" } else { "update" };
            Self { verb, candidates: Some("update|patch"), ..plain }
        }
    }
}

/// How much of a review its Event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// All that it can.
    Whole,
    /// No `requestObject` and no query, so that it is short; the annotation `audit.k8s.io/truncated` says so, as in an
    /// API server's own truncated Events.
    Truncated,
}

/// The length of the line that [`write()`] writes.
pub fn length(review: &Review<'_>, detail: Detail) -> usize {
    struct Counter(usize);
    impl Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    // A counter takes whatever comes.
    let _ = write(review, detail, &mut counter);
    counter.0
}

/// Writes the review as the line of an Event, newline included.
///
/// # Errors
/// Those of `out`.
pub fn write(review: &Review<'_>, detail: Detail, out: &mut impl Write) -> io::Result<()> {
    let request = Request::of(review);
    let cut = review.level.is_some_and(|level| level.is("Metadata"));
    let level = if cut { "Metadata" } else { "Request" };
    let object = review.object.filter(|_| !cut && !is_connect(review) && detail == Detail::Whole);

    write!(out, r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"{level}","auditID":""#)?;
    out.write_all(review.uid.unwrap_or_default().escaped())?;
    write!(out, r#"","stage":"{}","requestURI":""#, request.stage)?;
    write_uri(review, &request, detail, out)?;
    write!(out, r#"","verb":"{}","user":"#, request.verb)?;
    out.write_all(review.user.unwrap_or(b"{}"))?;
    write_object_ref(review, &request, out)?;
    let code = request.code;
    write!(out, r#","responseStatus":{{"metadata":{{}},"message":"inferred from an AdmissionReview","code":{code}}}"#)?;
    if let Some(object) = object {
        out.write_all(b",\"requestObject\":")?;
        out.write_all(object)?;
    }
    if let Some(received) = review.received {
        for name in ["requestReceivedTimestamp", "stageTimestamp"] {
            write_time(out, name, received)?;
        }
    }
    out.write_all(br#","annotations":{"authorization.k8s.io/decision":"allow","kube-audit-rest/inferred":""#)?;
    out.write_all(b"auditID,stage,requestURI,responseStatus")?;
    if object.is_some() {
        out.write_all(b",requestObject")?;
    }
    out.write_all(b",requestReceivedTimestamp,stageTimestamp\"")?;
    if detail == Detail::Truncated {
        out.write_all(br#","audit.k8s.io/truncated":"true""#)?;
    }
    if let Some(candidates) = request.candidates {
        write!(out, r#","kube-audit-rest/verb":"{candidates}""#)?;
    }
    out.write_all(b"}")?;
    if let Some(source) = review.source {
        write_member(out, "source", source.escaped())?;
    }
    out.write_all(b"}\n")
}

fn write_object_ref(review: &Review<'_>, request: &Request, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b",\"objectRef\":{\"resource\":\"")?;
    out.write_all(review.resource.resource.unwrap_or_default().escaped())?;
    out.write_all(b"\"")?;
    let members = [
        ("namespace", namespace(review, request)),
        ("name", review.name),
        ("apiGroup", review.resource.group),
        ("apiVersion", review.resource.version),
        ("subresource", review.subresource),
    ];
    for (name, text) in members {
        if let Some(text) = text {
            write_member(out, name, text.escaped())?;
        }
    }
    out.write_all(b"}")
}

/// `value` is a JSON string without its quotes.
fn write_member(out: &mut impl Write, name: &str, value: &[u8]) -> io::Result<()> {
    write!(out, ",\"{name}\":\"")?;
    out.write_all(value)?;
    out.write_all(b"\"")
}

/// For the API server a Namespace's namespace is its own name, except in the request that creates it.
fn namespace<'a>(review: &Review<'a>, request: &Request) -> Option<JsonStr<'a>> {
    let created = request.path == Path::Collection && is_namespace(review);
    review.namespace.filter(|_| !created)
}

fn is_namespace(review: &Review<'_>) -> bool {
    review.resource.group.is_none() && review.resource.resource.is_some_and(|resource| resource.is("namespaces"))
}

fn write_uri(review: &Review<'_>, request: &Request, detail: Detail, out: &mut impl Write) -> io::Result<()> {
    out.write_all(if review.resource.group.is_some() { b"/apis" } else { b"/api" })?;
    let namespace = review.namespace.filter(|_| !is_namespace(review));
    write_segments(out, review.resource.group)?;
    write_segments(out, review.resource.version)?;
    if namespace.is_some() {
        out.write_all(b"/namespaces")?;
        write_segments(out, namespace)?;
    }
    write_segments(out, review.resource.resource)?;
    if request.path == Path::Object {
        write_segments(out, review.name)?;
        write_segments(out, review.subresource)?;
    }
    let mut separator = "?";
    if is_connect(review)
        && detail == Detail::Whole
        && let Some(options) = review.object
    {
        write_options(options, &mut separator, out)?;
    }
    if review.run == Run::Dry {
        write!(out, "{separator}dryRun=All")?;
    }
    Ok(())
}

fn is_connect(review: &Review<'_>) -> bool {
    review.operation.is_some_and(|operation| operation.is("CONNECT"))
}

/// Writes the members of PodExecOptions and the like as the query that the client had sent. A proxy's options have a
/// `path`, which is the end of the URI's path and comes before the query.
fn write_options(options: &[u8], separator: &mut &'static str, out: &mut impl Write) -> io::Result<()> {
    if let Ok(Some(path)) = Reader::new(options).text_of(b"path") {
        write_escaped(out, path.chars(), |it| is_plain(it) || it == '/')?;
    }
    let mut written = Ok(());
    // If the options are damaged, the query holds what stands before the damage.
    let _ = Reader::new(options).members(|json, name| {
        if matches!(name, b"kind" | b"apiVersion" | b"metadata" | b"path") {
            return json.value().map(drop);
        }
        let mut one = |value: &[u8]| {
            written = std::mem::replace(&mut written, Ok(())).and_then(|()| {
                out.write_all(std::mem::replace(separator, "&").as_bytes())?;
                write_escaped(out, String::from_utf8_lossy(name).chars(), is_plain)?;
                out.write_all(b"=")?;
                write_value(out, value)
            });
        };
        let value = json.value()?;
        if value.starts_with(b"[") {
            Reader::new(value).elements_if_array(|json| json.value().map(&mut one))
        } else {
            one(value);
            Ok(())
        }
    });
    written
}

/// A value of a query: a string's characters, anything else as it stands.
fn write_value(out: &mut impl Write, value: &[u8]) -> io::Result<()> {
    match Reader::new(value).text_if_string() {
        Ok(Some(text)) => write_escaped(out, text.chars(), is_plain),
        _ => write_escaped(out, String::from_utf8_lossy(value).chars(), is_plain),
    }
}

fn write_segments(out: &mut impl Write, text: Option<JsonStr<'_>>) -> io::Result<()> {
    let Some(text) = text else { return Ok(()) };
    out.write_all(b"/")?;
    write_escaped(out, text.chars(), |character| is_plain(character) || "$&+=:@".contains(character))
}

/// Characters that stand for themselves anywhere in a URI: the unreserved ones of RFC 3986.
fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-_.~".contains(character)
}

fn write_escaped(
    out: &mut impl Write,
    characters: impl Iterator<Item = char>,
    plain: impl Fn(char) -> bool,
) -> io::Result<()> {
    for character in characters {
        let mut space = [0; 4];
        let encoded = character.encode_utf8(&mut space).as_bytes();
        if plain(character) {
            out.write_all(encoded)?;
        } else {
            encoded.iter().try_for_each(|byte| write!(out, "%{byte:02X}"))?;
        }
    }
    Ok(())
}

/// Whether the object was sent by server-side apply, which is a PATCH: in its managedFields the sender,
/// `options.fieldManager`, has entries by Apply and none by Update.
fn applied(review: &Review<'_>) -> Result<bool, Error> {
    let (Some(options), Some(object)) = (review.options, review.object) else { return Ok(false) };
    let Some(sender) = Reader::new(options).text_of(b"fieldManager")? else { return Ok(false) };
    let (mut apply, mut update) = (false, false);
    let mut entry = |json: &mut Reader<'_>| {
        let (mut manager, mut operation) = (JsonStr::default(), JsonStr::default());
        json.members_if_object(|json, name| {
            match name {
                b"manager" => manager = json.text_if_string()?.unwrap_or_default(),
                b"operation" => operation = json.text_if_string()?.unwrap_or_default(),
                _ => drop(json.value()?),
            }
            Ok(())
        })?;
        if manager.chars().eq(sender.chars()) {
            apply |= operation.is("Apply");
            update |= operation.is("Update");
        }
        Ok(())
    };
    Reader::new(object).members(|json, name| match name {
        b"metadata" => json.members_if_object(|json, name| match name {
            b"managedFields" => json.elements_if_array(&mut entry),
            _ => json.value().map(drop),
        }),
        _ => json.value().map(drop),
    })?;
    Ok(apply && !update)
}

/// Writes one of our timestamps with six digits instead of nine: the API's MicroTime has six, and its readers insist.
fn write_time(out: &mut impl Write, name: &str, time: JsonStr<'_>) -> io::Result<()> {
    let written = time.escaped();
    if written.len() != RFC3339_LENGTH {
        return write_member(out, name, written);
    }
    write!(out, ",\"{name}\":\"")?;
    out.write_all(written.get(..RFC3339_LENGTH - 4).unwrap_or_default())?;
    out.write_all(b"Z\"")
}

#[cfg(test)]
mod tests;
