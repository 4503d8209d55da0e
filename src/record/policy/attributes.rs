//! What a rule asks about a request: upstream's `authorizer.Attributes`, borrowed from the JSON that it came in.

use std::borrow::Cow;

/// A request, as rules see it.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    /// The user's name; "" matches no rule that asks for users.
    pub user: Cow<'a, str>,
    /// The groups that the user is in.
    pub groups: Groups<'a>,
    /// The verb, as in RBAC.
    pub verb: Cow<'a, str>,
    /// What it is for.
    pub target: Target<'a>,
}

/// What a request is for.
#[derive(Clone, Debug)]
pub enum Target<'a> {
    /// An object, or a collection of them.
    Resource(Resource<'a>),
    /// A path that is no resource's, decoded and without its query.
    Path(Cow<'a, str>),
}

/// An object, or a collection of them.
#[derive(Clone, Debug, Default)]
pub struct Resource<'a> {
    /// The API group; "" is the core's.
    pub group: Cow<'a, str>,
    /// The plural name, such as `pods`.
    pub resource: Cow<'a, str>,
    /// Such as `log`; "" for the object itself.
    pub subresource: Cow<'a, str>,
    /// "" for what is cluster-scoped, and for requests across namespaces.
    pub namespace: Cow<'a, str>,
    /// "" for collections, and for a create (upstream decides before it reads the body).
    pub name: Cow<'a, str>,
}

/// A JSON array of strings, without white space, as it stands in the request. It is walked through where a rule asks
/// for groups, so that nothing has to be allocated for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Groups<'a>(&'a [u8]);

impl<'a> Groups<'a> {
    /// From JSON such as `["a","b"]`. The caller has checked that it is an array of strings.
    pub fn new(json: &'a [u8]) -> Self {
        Self(json)
    }

    /// The groups' names.
    pub fn iter(self) -> impl Iterator<Item = Cow<'a, str>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let start = rest.iter().position(|&byte| byte == b'"')?;
            let string = rest.get(start..)?;
            let end = end_of_string(string)?;
            rest = string.get(end..)?;
            Some(decoded(string.get(..end)?))
        })
    }
}

/// The length of the string at the front of `json`, with its quotes.
fn end_of_string(json: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match json.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The text of a JSON string that is given with its quotes; borrowed unless something in it is escaped. What is not a
/// string, not UTF-8 or holds half of a surrogate pair gives "", as a missing member does.
pub(super) fn decoded(quoted: &[u8]) -> Cow<'_, str> {
    let Some(inside) = quoted.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return Cow::Borrowed("");
    };
    if inside.contains(&b'\\') {
        return serde_json::from_slice(quoted).map_or(Cow::Borrowed(""), Cow::Owned);
    }
    str::from_utf8(inside).map_or(Cow::Borrowed(""), Cow::Borrowed)
}
