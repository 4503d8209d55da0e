//! The tree of a YAML document -> the policy that it says, or the first thing that is wrong with it.
//!
//! The shape is that of `audit.k8s.io/v1` Policy. Unknown fields, of which kube-apiserver only warns, are refused: with
//! `verbs` indented one space too little, a rule would match everything.

use super::InvalidPolicy;
use super::yaml::{Member, Node, Value, in_quotes};
use crate::files::is_dns_name;
use crate::record::policy::{GroupResources, Level, ManagedFields, Policy, Rule, Stage};

/// As long as a DNS name may be (RFC 1123).
const MAX_GROUP: usize = 253;

/// Reads a policy's document.
pub(super) fn policy(document: &Node) -> Result<Policy, InvalidPolicy> {
    let fields = ["apiVersion", "kind", "metadata", "rules", "omitStages", "omitManagedFields"];
    let policy = Object::read(Field { path: String::new(), node: document }, &fields)?;
    policy.must_be("apiVersion", "audit.k8s.io/v1")?;
    policy.must_be("kind", "Policy")?;
    if let Some(metadata) = policy.get("metadata")
        && !matches!(metadata.node.value, Value::Map(_))
    {
        return Err(metadata.wrong("not a map"));
    }
    let omit_stages = policy.stages()?;
    let managed_fields = policy.managed_fields()?.unwrap_or_default();
    let rules = policy.each("rules", |field| rule(field, &omit_stages, managed_fields))?;
    if rules.is_empty() {
        return Err(policy.missing("rules", "there is none, so that nothing would be recorded"));
    }
    Ok(Policy { rules })
}

fn rule(field: Field<'_>, policy_omits: &[Stage], policy_managed_fields: ManagedFields) -> Result<Rule, InvalidPolicy> {
    let fields = [
        "level",
        "users",
        "userGroups",
        "verbs",
        "resources",
        "namespaces",
        "nonResourceURLs",
        "omitStages",
        "omitManagedFields",
    ];
    let rule = Object::read(field, &fields)?;
    let level = match rule.get("level") {
        None => return Err(rule.missing("level", "missing")),
        Some(level) => level.named(&Level::ALL, Level::name)?,
    };
    let resources = rule.each("resources", group_resources)?;
    let namespaces = rule.texts("namespaces")?;
    let non_resource_urls = rule.each("nonResourceURLs", url)?;
    if let Some(urls) = rule.get("nonResourceURLs")
        && !non_resource_urls.is_empty()
        && (!resources.is_empty() || !namespaces.is_empty())
    {
        return Err(urls.wrong("beside resources or namespaces, which no such request has"));
    }
    let mut omit_stages = policy_omits.to_vec();
    omit_stages.extend(rule.stages()?);
    Ok(Rule {
        level,
        users: rule.texts("users")?,
        user_groups: rule.texts("userGroups")?,
        verbs: rule.texts("verbs")?,
        resources,
        namespaces,
        non_resource_urls,
        omit_stages,
        managed_fields: rule.managed_fields()?.unwrap_or(policy_managed_fields),
    })
}

fn group_resources(field: Field<'_>) -> Result<GroupResources, InvalidPolicy> {
    let entry = Object::read(field, &["group", "resources", "resourceNames"])?;
    let group = match entry.get("group") {
        None => "",
        Some(field) => {
            let group = field.text()?;
            if !(group.is_empty() || group == "*" || is_dns_name(group, MAX_GROUP)) {
                let what = format!("{} is no DNS subdomain, such as apps or batch.example.com", in_quotes(group));
                return Err(field.wrong(what));
            }
            group
        }
    };
    let resources = entry.texts("resources")?;
    let resource_names = entry.texts("resourceNames")?;
    if let Some(names) = entry.get("resourceNames")
        && !resource_names.is_empty()
        && resources.is_empty()
    {
        return Err(names.wrong("without resources that they could be names of"));
    }
    Ok(GroupResources { group: group.to_owned(), resources, resource_names })
}

/// `*`, or a path that may end with `*`.
fn url(field: Field<'_>) -> Result<String, InvalidPolicy> {
    let url = field.text()?;
    let wrong = |what: &str| Err(field.wrong(format!("{} {what}", in_quotes(url))));
    let prefix = url.strip_suffix('*').unwrap_or(url);
    if url == "*" {
        Ok(url.to_owned())
    } else if !url.starts_with('/') {
        wrong("is neither * nor begins with /")
    } else if prefix.contains('*') {
        wrong("has a * that is not its end")
    } else {
        Ok(url.to_owned())
    }
}

/// A value, and where it stands.
struct Field<'n> {
    /// As in `rules[0].level`; "" is the document itself.
    path: String,
    node: &'n Node,
}

impl<'n> Field<'n> {
    fn wrong(&self, what: impl Into<String>) -> InvalidPolicy {
        InvalidPolicy { line: self.node.line, path: self.path.clone(), what: what.into() }
    }

    fn text(&self) -> Result<&'n str, InvalidPolicy> {
        Err(self.wrong(match &self.node.value {
            Value::Text(text) => return Ok(text),
            Value::Null => "nothing where a text is expected; the empty text is \"\"".to_owned(),
            Value::Bool(_) => {
                "true or false (or one of YAML's other words for them) where a text is expected; put it in quotes"
                    .to_owned()
            }
            Value::Number(number) => format!("the number {number} where a text is expected; put it in quotes"),
            Value::List(_) | Value::Map(_) => "a list or map where a text is expected".to_owned(),
        }))
    }

    /// The one of `all` that the text names.
    fn named<T: Copy>(&self, all: &[T], name: fn(T) -> &'static str) -> Result<T, InvalidPolicy> {
        let text = self.text()?;
        if let Some(found) = all.iter().find(|item| name(**item) == text) {
            return Ok(*found);
        }
        let names: Vec<_> = all.iter().map(|item| name(*item)).collect();
        Err(self.wrong(match names.iter().find(|name| name.eq_ignore_ascii_case(text)) {
            Some(almost) => format!("{} is written {almost}", in_quotes(text)),
            None => format!("{} is none of {}", in_quotes(text), names.join(", ")),
        }))
    }
}

/// A map all of whose fields are known.
struct Object<'n> {
    map: Field<'n>,
    members: &'n [Member],
}

impl<'n> Object<'n> {
    fn read(map: Field<'n>, known: &[&str]) -> Result<Self, InvalidPolicy> {
        let Value::Map(members) = &map.node.value else { return Err(map.wrong("not a map of fields")) };
        match members.iter().find(|member| !known.contains(&member.name.as_str())) {
            None => Ok(Self { map, members }),
            Some(unknown) => {
                let what = format!("unknown field {}; known are {}", in_quotes(&unknown.name), known.join(", "));
                Err(InvalidPolicy { line: unknown.line, ..map.wrong(what) })
            }
        }
    }

    /// The field of this name. Null is taken for no field, as in Go.
    fn get(&self, name: &str) -> Option<Field<'n>> {
        let member = self.members.iter().find(|member| member.name == name)?;
        (member.value.value != Value::Null).then(|| Field { path: self.path_of(name), node: &member.value })
    }

    fn path_of(&self, name: &str) -> String {
        match self.map.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    fn missing(&self, name: &str, what: &str) -> InvalidPolicy {
        InvalidPolicy { path: self.path_of(name), ..self.map.wrong(what) }
    }

    fn must_be(&self, name: &str, wanted: &str) -> Result<(), InvalidPolicy> {
        match self.get(name) {
            None => Err(self.missing(name, &format!("missing; {wanted} is expected"))),
            Some(field) if field.node.value == Value::Text(wanted.to_owned()) => Ok(()),
            Some(field) => Err(field.wrong(format!("not {wanted}"))),
        }
    }

    /// What `read` makes of each element of a list, which is empty where there is no such field.
    fn each<T>(
        &self,
        name: &str,
        read: impl Fn(Field<'n>) -> Result<T, InvalidPolicy>,
    ) -> Result<Vec<T>, InvalidPolicy> {
        let Some(Field { path, node }) = self.get(name) else { return Ok(Vec::new()) };
        let Value::List(list) = &node.value else { return Err(Field { path, node }.wrong("not a list")) };
        let elements = list.iter().enumerate();
        elements.map(|(number, node)| read(Field { path: format!("{path}[{number}]"), node })).collect()
    }

    fn texts(&self, name: &str) -> Result<Vec<String>, InvalidPolicy> {
        self.each(name, |field| field.text().map(str::to_owned))
    }

    fn stages(&self) -> Result<Vec<Stage>, InvalidPolicy> {
        self.each("omitStages", |field| field.named(&Stage::ALL, Stage::name))
    }

    fn managed_fields(&self) -> Result<Option<ManagedFields>, InvalidPolicy> {
        let Some(field) = self.get("omitManagedFields") else { return Ok(None) };
        match field.node.value {
            Value::Bool(true) => Ok(Some(ManagedFields::Omit)),
            Value::Bool(false) => Ok(Some(ManagedFields::Keep)),
            _ => Err(field.wrong("neither true nor false")),
        }
    }
}
