//! A review's `request`, read for its policy: what rules ask about, and what may be left out.

use std::borrow::Cow;

use super::attributes::Resource;
use super::candidates::{Operation, Review};
use super::cuts::{Part, Reduction, ReviewObject, Walk};
use super::noted::{Doubt, ResourceNotes, Spot, Texts, UserNotes, note, read_text};
use super::{Decision, Policy, objects};
use crate::record::json::{Compactor, Error};

/// The members of a request that are looked into: `uid` always, the others, which [`RequestNotes::member`] reads, for a
/// policy.
pub(crate) const NAMES: [&str; 11] = [
    "uid",
    "resource",
    "subResource",
    "requestResource",
    "requestSubResource",
    "name",
    "namespace",
    "operation",
    "userInfo",
    "object",
    "oldObject",
];

/// Where in the compacted review the values stand that rules ask about.
#[derive(Debug)]
pub(crate) struct RequestNotes {
    resource: Option<ResourceNotes>,
    sub_resource: Option<Spot>,
    request_resource: Option<ResourceNotes>,
    request_sub_resource: Option<Spot>,
    name: Option<Spot>,
    namespace: Option<Spot>,
    operation: Option<Spot>,
    user: Option<UserNotes>,
    doubt: Doubt,
    /// What is done with members that may have to go.
    pub(crate) walk: Walk,
}

impl RequestNotes {
    /// For a request that is about to be read.
    pub(crate) fn new(walk: Walk) -> Self {
        Self {
            resource: None,
            sub_resource: None,
            request_resource: None,
            request_sub_resource: None,
            name: None,
            namespace: None,
            operation: None,
            user: None,
            doubt: Doubt::None,
            walk,
        }
    }

    /// Reads the value of one of [`NAMES`] other than `uid`.
    pub(crate) fn member(&mut self, name: &'static str, json: &mut Compactor<'_>) -> Result<(), Error> {
        let Self { doubt, walk, .. } = self;
        match name {
            "resource" => note(&mut self.resource, ResourceNotes::read_gvr(json, doubt)?, doubt),
            "subResource" => note(&mut self.sub_resource, read_text(json)?, doubt),
            "requestResource" => note(&mut self.request_resource, ResourceNotes::read_gvr(json, doubt)?, doubt),
            "requestSubResource" => note(&mut self.request_sub_resource, read_text(json)?, doubt),
            "name" => note(&mut self.name, read_text(json)?, doubt),
            "namespace" => note(&mut self.namespace, read_text(json)?, doubt),
            "operation" => note(&mut self.operation, read_text(json)?, doubt),
            "userInfo" => note(&mut self.user, UserNotes::read(json, doubt)?, doubt),
            "object" => objects::read(json, Some(Part::Object), Part::ManagedFields, walk)?,
            "oldObject" => objects::read(json, Some(Part::OldObject), Part::OtherManagedFields, walk)?,
            _ => json.skip()?,
        }
        Ok(())
    }

    /// What the policy says of the review, whose compacted text this is, and what that leaves out.
    pub(crate) fn decide(&self, policy: &Policy, text: &[u8]) -> (Decision, Reduction) {
        if self.doubt == Doubt::Some {
            return (Decision::COMPLETE, Reduction::of(&Decision::COMPLETE));
        }
        let review = self.review(text);
        let decision = policy.decide_review(&review);
        let mut reduction = Reduction::of(&decision);
        if review.operation == Some(Operation::Connect) {
            reduction.object = ReviewObject::Options;
        }
        (decision, reduction)
    }

    fn review<'t>(&self, text: &'t [u8]) -> Review<'t> {
        let texts = Texts { text, offset: 0 };
        let (resource, sub_resource) = match &self.request_resource {
            Some(requested) => (Some(requested), &self.request_sub_resource),
            None => (self.resource.as_ref(), &self.sub_resource),
        };
        let (user, groups) = texts.user(&self.user);
        Review {
            user,
            groups,
            operation: Operation::from_name(&texts.at(&self.operation)),
            resource: Resource {
                group: resource.map_or(Cow::Borrowed(""), |resource| texts.at(&resource.group)),
                resource: resource.map_or(Cow::Borrowed(""), |resource| texts.at(&resource.resource)),
                subresource: texts.at(sub_resource),
                namespace: texts.at(&self.namespace),
                name: texts.at(&self.name),
            },
        }
    }
}
