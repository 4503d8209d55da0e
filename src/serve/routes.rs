//! Which requests are answered, and by what; without I/O.

use crate::files::sources::Sources;
use crate::http::{Content, Head, Method, Status};
pub use crate::observe::labels::Port;

/// What answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Its body is recorded.
    Record(Record),
    /// It is told how the process is.
    Report(Page),
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// An AdmissionReview, which is allowed.
    AdmissionReview,
    /// An EventList.
    EventList,
}

/// What the metrics port tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The counters.
    Metrics,
    /// The process lives.
    Healthz,
    /// Whether requests should come here.
    Readyz,
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No such path here.
    Path,
    /// No token, where sources are configured.
    TokenMissing,
    /// A token that belongs to no source.
    TokenUnknown,
    /// The path is right, the method is not; it allows this one.
    Method(&'static str),
    /// The Content-Type is not `application/json`.
    ContentType,
    /// There is a Content-Encoding other than identity.
    ContentEncoding,
}

impl Refused {
    /// The status, the line for the client and the `Allow` header. A wrong token is answered like a wrong path, so that
    /// whoever guesses tokens learns nothing.
    pub fn reply(self) -> (Status, &'static str, Option<&'static str>) {
        match self {
            Self::Path | Self::TokenMissing | Self::TokenUnknown => {
                (Status::NotFound, "nothing is served at this path", None)
            }
            Self::Method(allow) => (Status::MethodNotAllowed, "this path does not allow this method", Some(allow)),
            Self::ContentType => (Status::BadRequest, "Content-Type is not application/json", None),
            Self::ContentEncoding => {
                (Status::UnsupportedMediaType, "Content-Encoding is not taken: send the body uncompressed", None)
            }
        }
    }
}

/// Judges a request's head. With `sources`, says whose request it is.
pub fn route<'s>(
    port: Port,
    head: &Head<'_>,
    sources: Option<&'s Sources>,
) -> Result<(Route, Option<&'s str>), Refused> {
    if port == Port::Metrics {
        let page = match head.path {
            "/metrics" => Page::Metrics,
            "/healthz" => Page::Healthz,
            "/readyz" => Page::Readyz,
            _ => return Err(Refused::Path),
        };
        return match head.method {
            Method::Get | Method::Head => Ok((Route::Report(page), None)),
            _ => Err(Refused::Method("GET, HEAD")),
        };
    }
    let (record, token) = audit_path(port, head.path).ok_or(Refused::Path)?;
    let source = match (sources, token.map(str::as_bytes).or(head.bearer)) {
        (None, _) if token.is_some() => return Err(Refused::Path),
        (None, _) => None,
        (Some(_), None) => return Err(Refused::TokenMissing),
        (Some(sources), Some(token)) => Some(sources.name_of(token).ok_or(Refused::TokenUnknown)?),
    };
    if head.method != Method::Post {
        return Err(Refused::Method("POST"));
    }
    match head.content {
        Content::Json => Ok((Route::Record(record), source)),
        Content::Other => Err(Refused::ContentType),
        Content::Encoded => Err(Refused::ContentEncoding),
    }
}

/// What a path on an audit port takes, and the source's token if the path carries one.
fn audit_path(port: Port, path: &str) -> Option<(Record, Option<&str>)> {
    let path = path.strip_prefix('/')?;
    let (first, token) = match path.split_once('/') {
        Some((first, token)) => (first, Some(token)),
        None => (path, None),
    };
    match (port, first) {
        (Port::Https, "log-request") => Some((Record::AdmissionReview, token)),
        (Port::Https | Port::Http, "audit-events") => Some((Record::EventList, token)),
        // An IKS remote server may be an address without a path.
        (Port::Http, "") if token.is_none() => Some((Record::EventList, None)),
        (Port::Http, _) if token.is_none() => Some((Record::EventList, Some(first))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Framing;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn head<'b>(method: Method, path: &'b str) -> Head<'b> {
        Head {
            method,
            path,
            framing: Framing::Length(1),
            keep_alive: true,
            http10: false,
            expects_continue: false,
            content: Content::Json,
            bearer: None,
        }
    }

    fn sources() -> Sources {
        Sources::parse(format!("edge-1 {TOKEN}\n").as_bytes()).unwrap()
    }

    #[test]
    fn each_port_serves_its_own_paths_only() {
        let post = |port, path| route(port, &head(Method::Post, path), None).map(|(route, _)| route);
        assert_eq!(post(Port::Https, "/log-request"), Ok(Route::Record(Record::AdmissionReview)));
        assert_eq!(post(Port::Https, "/audit-events"), Ok(Route::Record(Record::EventList)));
        assert_eq!(post(Port::Http, "/audit-events"), Ok(Route::Record(Record::EventList)));
        assert_eq!(post(Port::Http, "/"), Ok(Route::Record(Record::EventList)));
        for (port, path) in [
            (Port::Https, "/"),
            (Port::Https, "/log-request/"),
            (Port::Https, "/log-request/x"),
            (Port::Https, "//log-request"),
            (Port::Https, "log-request"),
            (Port::Https, "/metrics"),
            (Port::Http, "/log-request"),
            (Port::Http, "/x"),
            (Port::Http, "*"),
            (Port::Metrics, "/log-request"),
            (Port::Metrics, "/"),
        ] {
            assert_eq!(post(port, path), Err(Refused::Path), "{port:?} {path}");
        }
    }

    #[test]
    fn a_wrong_method_names_the_right_one() {
        assert_eq!(route(Port::Https, &head(Method::Get, "/log-request"), None), Err(Refused::Method("POST")));
        assert_eq!(route(Port::Metrics, &head(Method::Post, "/metrics"), None), Err(Refused::Method("GET, HEAD")));
        assert!(route(Port::Metrics, &head(Method::Head, "/readyz"), None).is_ok());
    }

    #[test]
    fn a_body_of_another_type_is_400_and_an_encoded_one_415_and_only_at_a_right_path() {
        let ask = |content, method, path| {
            let head = Head { content, ..head(method, path) };
            route(Port::Https, &head, None).map_err(|refused| refused.reply().0)
        };
        assert_eq!(ask(Content::Other, Method::Post, "/log-request"), Err(Status::BadRequest));
        assert_eq!(ask(Content::Encoded, Method::Post, "/audit-events"), Err(Status::UnsupportedMediaType));
        assert_eq!(ask(Content::Encoded, Method::Post, "/x"), Err(Status::NotFound));
        assert_eq!(ask(Content::Encoded, Method::Get, "/log-request"), Err(Status::MethodNotAllowed));
    }

    #[test]
    fn with_sources_a_token_is_demanded_in_the_path_or_as_bearer() {
        let sources = sources();
        let ask = |port, path: &str, bearer: Option<&str>| {
            let mut head = head(Method::Post, path);
            head.bearer = bearer.map(str::as_bytes);
            route(port, &head, Some(&sources)).map(|(_, source)| source.map(str::to_owned))
        };
        let name = Ok(Some("edge-1".to_owned()));
        assert_eq!(ask(Port::Https, &format!("/log-request/{TOKEN}"), None), name);
        assert_eq!(ask(Port::Http, &format!("/{TOKEN}"), None), name);
        assert_eq!(ask(Port::Http, "/", Some(TOKEN)), name);
        assert_eq!(ask(Port::Https, "/audit-events", Some(TOKEN)), name);
        assert_eq!(ask(Port::Https, "/audit-events", None), Err(Refused::TokenMissing));
        assert_eq!(ask(Port::Https, "/log-request/", None), Err(Refused::TokenUnknown));
        assert_eq!(ask(Port::Https, &format!("/log-request/{TOKEN}/"), None), Err(Refused::TokenUnknown));
        assert_eq!(ask(Port::Https, "/log-request/x", Some(TOKEN)), Err(Refused::TokenUnknown));
    }

    #[test]
    fn a_wrong_token_is_told_what_a_wrong_path_is_told() {
        assert_eq!(Refused::TokenUnknown.reply(), Refused::Path.reply());
        assert_eq!(Refused::TokenMissing.reply(), Refused::Path.reply());
    }
}
