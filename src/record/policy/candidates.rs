//! The requests that a review may come from.

use std::borrow::Cow;

use super::{Attributes, Groups, Resource, Target};

/// What a review says that rules ask about.
#[derive(Clone, Debug)]
pub struct Review<'a> {
    /// `request.userInfo.username`: the effective user, where one impersonates another.
    pub user: Cow<'a, str>,
    /// `request.userInfo.groups`.
    pub groups: Groups<'a>,
    /// `request.operation`; none: it is missing, or none that is known.
    pub operation: Option<Operation>,
    /// What was requested (`requestResource`, `requestSubResource`, else `resource`, `subResource`), with `namespace`
    /// and `name` as they stand in the review.
    pub resource: Resource<'a>,
}

/// `request.operation` of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// An object comes into being: by a POST, or by server-side apply, which is a PATCH.
    Create,
    /// An object changes: by a PUT or a PATCH; nothing in the review says which.
    Update,
    /// An object goes, alone or with its collection.
    Delete,
    /// A stream into a pod, or a request to it, by whatever method.
    Connect,
}

impl Operation {
    /// The operation of that name in the Kubernetes API.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "CREATE" => Some(Self::Create),
            "UPDATE" => Some(Self::Update),
            "DELETE" => Some(Self::Delete),
            "CONNECT" => Some(Self::Connect),
            _ => None,
        }
    }
}

/// Which name and namespace a request has when upstream matches it against the rules.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// They are those of the review.
    AsReviewed,
    /// Those of a request to a collection: no name, and for a new Namespace no namespace. Upstream decides before it reads
    /// the object.
    OfCollection,
}

impl<'a> Review<'a> {
    /// All requests that the review may come from, as rules see them.
    pub(super) fn candidates(&self) -> impl Iterator<Item = Attributes<'a>> {
        self.verbs().iter().map(|&(verb, names)| Attributes {
            user: self.user.clone(),
            groups: self.groups,
            verb: Cow::Borrowed(verb),
            target: Target::Resource(self.resource(names)),
        })
    }

    fn verbs(&self) -> &'static [(&'static str, Names)] {
        use Names::{AsReviewed, OfCollection};
        let object_itself = self.resource.subresource.is_empty();
        match self.operation {
            Some(Operation::Create) if object_itself => {
                &[("create", OfCollection), ("update", AsReviewed), ("patch", AsReviewed)]
            }
            Some(Operation::Create) => &[("create", AsReviewed), ("update", AsReviewed), ("patch", AsReviewed)],
            Some(Operation::Update) => &[("update", AsReviewed), ("patch", AsReviewed)],
            Some(Operation::Delete) if self.resource.name.is_empty() => &[("deletecollection", AsReviewed)],
            Some(Operation::Delete) => &[("delete", AsReviewed)],
            Some(Operation::Connect) if is_stream(&self.resource.subresource) => {
                &[("create", AsReviewed), ("get", AsReviewed)]
            }
            Some(Operation::Connect) => &[
                ("get", AsReviewed),
                ("create", AsReviewed),
                ("update", AsReviewed),
                ("patch", AsReviewed),
                ("delete", AsReviewed),
            ],
            // Kubernetes knows no other operation. All verbs are asked about, so that the highest level counts.
            None => &[
                ("create", OfCollection),
                ("get", AsReviewed),
                ("create", AsReviewed),
                ("update", AsReviewed),
                ("patch", AsReviewed),
                ("delete", AsReviewed),
                ("deletecollection", AsReviewed),
            ],
        }
    }

    fn resource(&self, names: Names) -> Resource<'a> {
        let mut resource = self.resource.clone();
        if names == Names::OfCollection {
            resource.name = Cow::Borrowed("");
            if resource.resource == "namespaces" && resource.group.is_empty() {
                resource.namespace = Cow::Borrowed("");
            }
        }
        resource
    }
}

fn is_stream(subresource: &str) -> bool {
    matches!(subresource, "exec" | "attach" | "portforward")
}
