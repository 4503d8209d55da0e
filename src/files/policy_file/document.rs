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
    let policy = Object::read(document, String::new(), &fields)?;
    policy.must_be("apiVersion", "audit.k8s.io/v1")?;
    policy.must_be("kind", "Policy")?;
    if let Some(metadata) = policy.get("metadata")
        && !matches!(metadata.value, Value::Map(_))
    {
        return Err(policy.wrong("metadata", metadata, "not a map"));
    }
    let omit_stages = policy.stages()?;
    let managed_fields = policy.managed_fields()?.unwrap_or_default();
    let rules = policy.list("rules")?;
    if rules.is_empty() {
        return Err(policy.missing("rules", "there is none, so that nothing would be recorded"));
    }
    let rules = rules
        .iter()
        .enumerate()
        .map(|(number, node)| rule(node, format!("rules[{number}]"), &omit_stages, managed_fields))
        .collect::<Result<_, _>>()?;
    Ok(Policy { rules })
}

fn rule(
    node: &Node,
    path: String,
    policy_omits: &[Stage],
    policy_managed_fields: ManagedFields,
) -> Result<Rule, InvalidPolicy> {
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
    let rule = Object::read(node, path, &fields)?;
    let level = match rule.get("level") {
        None => return Err(rule.missing("level", "missing")),
        Some(node) => rule.named("level", node, &Level::ALL, Level::name)?,
    };
    let resources = rule
        .list("resources")?
        .iter()
        .enumerate()
        .map(|(number, node)| group_resources(node, format!("{}[{number}]", rule.path_of("resources"))))
        .collect::<Result<Vec<_>, _>>()?;
    let namespaces = rule.texts("namespaces")?;
    let urls = rule.texts("nonResourceURLs")?;
    if let Some(node) = rule.get("nonResourceURLs")
        && !urls.is_empty()
        && (!resources.is_empty() || !namespaces.is_empty())
    {
        let what = "beside resources or namespaces, which no such request has";
        return Err(rule.wrong("nonResourceURLs", node, what));
    }
    for (number, (url, line)) in urls.iter().enumerate() {
        url_is_valid(url).map_err(|what| InvalidPolicy {
            line: *line,
            path: format!("{}[{number}]", rule.path_of("nonResourceURLs")),
            what: format!("{} {what}", in_quotes(url)),
        })?;
    }
    let mut omit_stages = policy_omits.to_vec();
    omit_stages.extend(rule.stages()?);
    Ok(Rule {
        level,
        users: without_lines(rule.texts("users")?),
        user_groups: without_lines(rule.texts("userGroups")?),
        verbs: without_lines(rule.texts("verbs")?),
        resources,
        namespaces: without_lines(namespaces),
        non_resource_urls: without_lines(urls),
        omit_stages,
        managed_fields: rule.managed_fields()?.unwrap_or(policy_managed_fields),
    })
}

fn group_resources(node: &Node, path: String) -> Result<GroupResources, InvalidPolicy> {
    let entry = Object::read(node, path, &["group", "resources", "resourceNames"])?;
    let group = match entry.get("group") {
        None => String::new(),
        Some(node) => {
            let group = entry.text("group", node)?;
            if !(group.is_empty() || group == "*" || is_dns_name(group, MAX_GROUP)) {
                let what = format!("{} is no DNS subdomain, such as apps or batch.example.com", in_quotes(group));
                return Err(entry.wrong("group", node, what));
            }
            group.to_owned()
        }
    };
    let resources = without_lines(entry.texts("resources")?);
    let resource_names = without_lines(entry.texts("resourceNames")?);
    if let Some(node) = entry.get("resourceNames")
        && !resource_names.is_empty()
        && resources.is_empty()
    {
        return Err(entry.wrong("resourceNames", node, "without resources that they could be names of"));
    }
    Ok(GroupResources { group, resources, resource_names })
}

/// Fails with what is wrong: `*`, or a path that may end with `*`, is valid.
fn url_is_valid(url: &str) -> Result<(), &'static str> {
    let prefix = url.strip_suffix('*').unwrap_or(url);
    if url == "*" {
        Ok(())
    } else if !url.starts_with('/') {
        Err("is neither * nor begins with /")
    } else if prefix.contains('*') {
        Err("has a * that is not its end")
    } else {
        Ok(())
    }
}

/// The texts, without the line of each.
fn without_lines(texts: Vec<(String, usize)>) -> Vec<String> {
    texts.into_iter().map(|(text, _)| text).collect()
}

/// A map all of whose fields are known.
struct Object<'n> {
    path: String,
    line: usize,
    members: &'n [Member],
}

impl<'n> Object<'n> {
    fn read(node: &'n Node, path: String, known: &[&str]) -> Result<Self, InvalidPolicy> {
        let Value::Map(members) = &node.value else {
            return Err(InvalidPolicy { line: node.line, path, what: "not a map of fields".to_owned() });
        };
        let object = Self { path, line: node.line, members };
        match members.iter().find(|member| !known.contains(&member.name.as_str())) {
            None => Ok(object),
            Some(unknown) => Err(InvalidPolicy {
                line: unknown.line,
                path: object.path.clone(),
                what: format!("unknown field {}; known are {}", in_quotes(&unknown.name), known.join(", ")),
            }),
        }
    }

    /// The field's value. Null is taken for no field, as in Go.
    fn get(&self, field: &str) -> Option<&'n Node> {
        let member = self.members.iter().find(|member| member.name == field)?;
        (member.value.value != Value::Null).then_some(&member.value)
    }

    fn path_of(&self, field: &str) -> String {
        match self.path.as_str() {
            "" => field.to_owned(),
            path => format!("{path}.{field}"),
        }
    }

    fn wrong(&self, field: &str, node: &Node, what: impl Into<String>) -> InvalidPolicy {
        InvalidPolicy { line: node.line, path: self.path_of(field), what: what.into() }
    }

    fn missing(&self, field: &str, what: &str) -> InvalidPolicy {
        InvalidPolicy { line: self.line, path: self.path_of(field), what: what.to_owned() }
    }

    fn must_be(&self, field: &str, wanted: &str) -> Result<(), InvalidPolicy> {
        match self.get(field) {
            None => Err(self.missing(field, &format!("missing; {wanted} is expected"))),
            Some(node) if node.value == Value::Text(wanted.to_owned()) => Ok(()),
            Some(node) => Err(self.wrong(field, node, format!("not {wanted}"))),
        }
    }

    fn text(&self, field: &str, node: &'n Node) -> Result<&'n str, InvalidPolicy> {
        as_text(node).map_err(|what| self.wrong(field, node, what))
    }

    fn list(&self, field: &str) -> Result<&'n [Node], InvalidPolicy> {
        match self.get(field) {
            None => Ok(&[]),
            Some(Node { value: Value::List(list), .. }) => Ok(list),
            Some(node) => Err(self.wrong(field, node, "not a list")),
        }
    }

    /// A list of texts, each with its line.
    fn texts(&self, field: &str) -> Result<Vec<(String, usize)>, InvalidPolicy> {
        let texts = self.list(field)?.iter().enumerate().map(|(number, node)| match as_text(node) {
            Ok(text) => Ok((text.to_owned(), node.line)),
            Err(what) => Err(self.wrong(&format!("{field}[{number}]"), node, what)),
        });
        texts.collect()
    }

    /// The one of `all` that the text names.
    fn named<T: Copy>(
        &self,
        field: &str,
        node: &'n Node,
        all: &[T],
        name: fn(T) -> &'static str,
    ) -> Result<T, InvalidPolicy> {
        let text = self.text(field, node)?;
        if let Some(found) = all.iter().find(|item| name(**item) == text) {
            return Ok(*found);
        }
        let names: Vec<_> = all.iter().map(|item| name(*item)).collect();
        let what = match names.iter().find(|name| name.eq_ignore_ascii_case(text)) {
            Some(almost) => format!("{} is written {almost}", in_quotes(text)),
            None => format!("{} is none of {}", in_quotes(text), names.join(", ")),
        };
        Err(self.wrong(field, node, what))
    }

    fn stages(&self) -> Result<Vec<Stage>, InvalidPolicy> {
        let stages = self.list("omitStages")?.iter().enumerate();
        stages
            .map(|(number, node)| self.named(&format!("omitStages[{number}]"), node, &Stage::ALL, Stage::name))
            .collect()
    }

    fn managed_fields(&self) -> Result<Option<ManagedFields>, InvalidPolicy> {
        match self.get("omitManagedFields").map(|node| (node, &node.value)) {
            None => Ok(None),
            Some((_, Value::Bool(true))) => Ok(Some(ManagedFields::Omit)),
            Some((_, Value::Bool(false))) => Ok(Some(ManagedFields::Keep)),
            Some((node, _)) => Err(self.wrong("omitManagedFields", node, "neither true nor false")),
        }
    }
}

fn as_text(node: &Node) -> Result<&str, String> {
    match &node.value {
        Value::Text(text) => Ok(text),
        Value::Null => Err("nothing where a text is expected; the empty text is \"\"".to_owned()),
        Value::Bool(_) => {
            Err("true or false (or one of YAML's other words for them) where a text is expected; put it in quotes"
                .to_owned())
        }
        Value::Number(number) => Err(format!("the number {number} where a text is expected; put it in quotes")),
        Value::List(_) | Value::Map(_) => Err("a list or map where a text is expected".to_owned()),
    }
}
