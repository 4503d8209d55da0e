//! An audit Policy (audit.k8s.io/v1), checked: which requests are recorded, and how much of each.
//!
//! This room owns the rules, which of them decides, and what a level leaves out. It must not know files, YAML or
//! sockets. What matches is read off k8s.io/apiserver, `pkg/audit/policy/checker.go`, and held to its test vectors.

mod attributes;
mod candidates;
pub(crate) mod cuts;
pub(crate) mod event_notes;
mod matching;
mod noted;
mod objects;
pub(crate) mod review_notes;

pub use attributes::{Attributes, Groups, Resource, Target};
pub use candidates::{Operation, Review};

/// How much of a request is recorded; each holds all that those before it hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// No line at all.
    None,
    /// Who did what to which object, without the object.
    Metadata,
    /// The object as it was sent, too; neither the old one nor a response.
    Request,
    /// Everything.
    RequestResponse,
}

impl Level {
    /// All of them, the lowest first.
    pub const ALL: [Self; 4] = [Self::None, Self::Metadata, Self::Request, Self::RequestResponse];

    /// Its name in the Kubernetes API.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }

    /// The level of that name; the Kubernetes API takes no other case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// At which point of a request its Event was made. An AdmissionReview has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The request has come and is not handled yet.
    RequestReceived,
    /// The response's headers are sent, its body is not (a watch, an exec).
    ResponseStarted,
    /// The response is sent.
    ResponseComplete,
    /// The API server panicked.
    Panic,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::RequestReceived, Self::ResponseStarted, Self::ResponseComplete, Self::Panic];

    /// Its name in the Kubernetes API.
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }

    /// The stage of that name; the Kubernetes API takes no other case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }
}

/// What becomes of `metadata.managedFields`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ManagedFields {
    /// They stay.
    #[default]
    Keep,
    /// They are left out.
    Omit,
}

/// A policy: its rules, the first that matches decides.
#[derive(Debug, PartialEq, Eq)]
pub struct Policy {
    /// In the file's order.
    pub rules: Vec<Rule>,
}

/// One rule. An empty list of conditions is no condition.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// What is recorded of a request that matches.
    pub level: Level,
    /// Names of users.
    pub users: Vec<String>,
    /// Names of groups; being in one of them is enough.
    pub user_groups: Vec<String>,
    /// Verbs, as in RBAC.
    pub verbs: Vec<String>,
    /// Kinds of objects.
    pub resources: Vec<GroupResources>,
    /// Namespaces; "" is the cluster's scope.
    pub namespaces: Vec<String>,
    /// Paths of requests that are for no resource; `*` at the end is a prefix's.
    pub non_resource_urls: Vec<String>,
    /// Stages whose Events are left out: the policy's and the rule's.
    pub omit_stages: Vec<Stage>,
    /// The rule's setting, or else the policy's.
    pub managed_fields: ManagedFields,
}

/// Kinds of objects in one API group.
#[derive(Debug, PartialEq, Eq)]
pub struct GroupResources {
    /// The API group; "" is the core's, `*` any.
    pub group: String,
    /// `pods`, `pods/log`, `pods/*`, `*/log` or `*`; empty: all of the group.
    pub resources: Vec<String>,
    /// Names of objects; empty: any.
    pub resource_names: Vec<String>,
}

/// What the policy says of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is recorded.
    pub level: Level,
    /// Whether managed fields are left out of what is recorded.
    pub managed_fields: ManagedFields,
    /// The rule that decided, counted from 0; none: no rule matched.
    pub rule: Option<usize>,
}

impl Decision {
    /// Where no rule matches, nothing is recorded.
    const NO_RULE: Self = Self { level: Level::None, managed_fields: ManagedFields::Keep, rule: None };

    /// For what the policy cannot judge: it is recorded completely.
    pub const COMPLETE: Self = Self { level: Level::RequestResponse, managed_fields: ManagedFields::Keep, rule: None };
}

/// How many reviews and Events were recorded at each level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally([u64; Level::ALL.len()]);

impl Tally {
    /// Counts one.
    pub fn count(&mut self, level: Level) {
        if let Some(count) = self.0.get_mut(level as usize) {
            *count += 1;
        }
    }

    /// Each level, with how many were counted.
    pub fn iter(&self) -> impl Iterator<Item = (Level, u64)> {
        Level::ALL.into_iter().zip(self.0)
    }
}

impl Policy {
    /// What the first rule that matches says.
    pub fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        for (number, rule) in self.rules.iter().enumerate() {
            if matching::matches(rule, attributes) {
                return Decision { level: rule.level, managed_fields: rule.managed_fields, rule: Some(number) };
            }
        }
        Decision::NO_RULE
    }

    /// What the policy says of a review.
    ///
    /// A review does not tell its request's verb exactly, so each possible one is asked about. The highest level
    /// counts, so that nothing is left out which the policy wants recorded; managed fields are left out if all that
    /// say this level want that.
    pub fn decide_review(&self, review: &Review<'_>) -> Decision {
        let mut highest: Option<Decision> = None;
        for attributes in review.candidates() {
            let decision = self.decide(&attributes);
            highest = Some(match highest {
                None => decision,
                Some(so_far) if decision.level > so_far.level => decision,
                Some(so_far) if decision.level == so_far.level && decision.managed_fields == ManagedFields::Keep => {
                    Decision { managed_fields: ManagedFields::Keep, ..so_far }
                }
                Some(so_far) => so_far,
            });
        }
        highest.unwrap_or(Decision::COMPLETE)
    }

    /// Whether an Event of this stage is left out, after that decision on it.
    pub fn omits(&self, decision: &Decision, stage: Stage) -> bool {
        let rule = decision.rule.and_then(|number| self.rules.get(number));
        rule.is_some_and(|rule| rule.omit_stages.contains(&stage))
    }
}

#[cfg(test)]
mod tests;
