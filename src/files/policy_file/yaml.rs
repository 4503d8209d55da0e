//! YAML text -> a tree of values that know their lines. JSON is YAML, and is read by the same code.
//!
//! This is the only place that knows the YAML parser. Plain values, tags and merge keys mean what they mean to
//! kube-apiserver (sigs.k8s.io/yaml, which reads YAML 1.1), so that `users: [1234]` is not taken for a name here and for
//! a number there. What means one thing to kube-apiserver and another by YAML's own rules is refused.

mod scalar;

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser};

use super::InvalidPolicy;
use crate::observe::visible::beginning;
use scalar::{is_merge_key, scalar};

/// How deep lists and maps may stand in each other.
const MAX_DEPTH: usize = 64;

/// How many values there may be, counted after aliases are replaced by what they stand for: a few lines of aliases of
/// aliases would be billions.
const MAX_VALUES: usize = 100_000;

/// The name of a member that brings in those of other maps.
const MERGE_KEY: &str = "<<";

/// In what an alias stands for, text counts as one more value for each so many bytes: aliases of one long text would
/// otherwise be gigabytes.
const TEXT_OF_A_VALUE: usize = 64;

/// A value and the line, from 1, on which it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`, or one of YAML 1.1's other words for them.
    Bool(bool),
    /// Any number, as it was written.
    Number(String),
    /// Any other scalar, and whatever stands in quotes.
    Text(String),
    List(Vec<Node>),
    /// No two members have the same name.
    Map(Vec<Member>),
}

/// A member of a map, and the line of its name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) value: Node,
}

/// Reads the one document of a YAML text.
///
/// # Errors
/// What is no YAML; a second document, or none; a name twice in a map, or one that is no scalar; a tag that says what a
/// scalar is not; more than [`MAX_DEPTH`] and [`MAX_VALUES`] allow.
pub(super) fn read(text: &str) -> Result<Node, InvalidPolicy> {
    let mut builder = Builder { document: None, open: Vec::new(), anchors: HashMap::new(), values_left: MAX_VALUES };
    // Of characters: the parser for whole texts is faster, which does not matter here, and 8 KB larger.
    for event in Parser::new_from_iter(text.strip_prefix('\u{feff}').unwrap_or(text).chars()) {
        let (event, span) = event.map_err(|error| {
            // Where the text ends too early, the parser says the line behind the last.
            let line = error.marker().line().min(text.lines().count().max(1));
            InvalidPolicy::at(line, format!("not YAML: {}", error.info()))
        })?;
        builder.take(event, span.start.line())?;
    }
    builder.document.ok_or_else(|| InvalidPolicy::at(1, "the file is empty"))
}

/// The tree as far as it has been read.
struct Builder {
    document: Option<Node>,
    /// Lists and maps that have begun and not ended, the outermost first.
    open: Vec<Open>,
    /// Values that aliases may stand for, by the parser's number.
    anchors: HashMap<usize, Node>,
    values_left: usize,
}

/// A list or map that has begun.
struct Open {
    line: usize,
    /// The parser's number of its anchor; 0 is none.
    anchor: usize,
    content: Unfinished,
}

enum Unfinished {
    List(Vec<Node>),
    Map(UnfinishedMap),
}

#[derive(Default)]
struct UnfinishedMap {
    members: Vec<Member>,
    names: HashSet<String>,
    /// Members that `<<` brings in. They count where the map has none of that name itself.
    merged: Vec<Member>,
    /// A name whose value has not come yet, and its line.
    name: Option<(Name, usize)>,
}

/// What stands where a member's name is expected.
enum Name {
    Field(String),
    /// `<<`: the value is a map, or a list of maps, whose members are this map's as well.
    Merge,
}

impl UnfinishedMap {
    /// The next name, or the value of the last one.
    fn put(&mut self, node: Node) -> Result<(), InvalidPolicy> {
        let line = node.line;
        match self.name.take() {
            Some((Name::Field(name), line)) => self.members.push(Member { name, line, value: node }),
            Some((Name::Merge, _)) => self.merge(node)?,
            None => {
                let text = node.into_name()?;
                if !self.names.insert(text.clone()) {
                    return Err(twice(&text, line));
                }
                self.name = Some((Name::Field(text), line));
            }
        }
        Ok(())
    }

    fn put_merge_key(&mut self, line: usize) -> Result<(), InvalidPolicy> {
        if !self.names.insert(MERGE_KEY.to_owned()) {
            return Err(twice(MERGE_KEY, line));
        }
        self.name = Some((Name::Merge, line));
        Ok(())
    }

    /// Of several maps the first that has a member counts.
    fn merge(&mut self, node: Node) -> Result<(), InvalidPolicy> {
        let line = node.line;
        let no_map = || InvalidPolicy::at(line, "<< wants a map, or a list of maps");
        let maps = match node.value {
            Value::List(list) => list,
            _ => vec![node],
        };
        for map in maps {
            let Value::Map(members) = map.value else { return Err(no_map()) };
            for member in members {
                if self.names.contains(&member.name) {
                    let name = in_quotes(&member.name);
                    let what = format!(
                        "<< brings in {name}, which stands before it and for kube-apiserver would not \
                                        count any more; put << first"
                    );
                    return Err(InvalidPolicy::at(line, what));
                }
                if !self.merged.iter().any(|merged| merged.name == member.name) {
                    self.merged.push(member);
                }
            }
        }
        Ok(())
    }

    fn finished(self) -> Value {
        let Self { mut members, names, merged, .. } = self;
        members.extend(merged.into_iter().filter(|member| !names.contains(&member.name)));
        Value::Map(members)
    }
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), InvalidPolicy> {
        match event {
            Event::DocumentStart(_) if self.document.is_some() => {
                Err(InvalidPolicy::at(line, "a second document begins, one is expected"))
            }
            Event::Scalar(text, style, anchor, tag) => {
                if let Some(Open { content: Unfinished::Map(map), .. }) = self.open.last_mut()
                    && map.name.is_none()
                    && is_merge_key(&text, style, tag.as_deref())
                {
                    return map.put_merge_key(line);
                }
                let value = scalar(text.into_owned(), style, tag.as_deref(), line)?;
                self.put(Node { line, value }, anchor)
            }
            // kube-apiserver does not look at the tags of lists and maps.
            Event::SequenceStart(anchor, _) => self.begin(Open { line, anchor, content: Unfinished::List(Vec::new()) }),
            Event::MappingStart(anchor, _) => {
                self.begin(Open { line, anchor, content: Unfinished::Map(UnfinishedMap::default()) })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { line, anchor, content }) = self.open.pop() else { return Ok(()) };
                let value = match content {
                    Unfinished::List(list) => Value::List(list),
                    Unfinished::Map(map) => map.finished(),
                };
                self.put(Node { line, value }, anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(InvalidPolicy::at(line, "an alias of what it stands in"));
                };
                if self.open.len() + node.depth() > MAX_DEPTH {
                    return Err(too_deep(line));
                }
                self.count(node.values(), line)?;
                self.put(Node { line, ..node }, 0)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, open: Open) -> Result<(), InvalidPolicy> {
        if self.open.len() == MAX_DEPTH {
            return Err(too_deep(open.line));
        }
        self.open.push(open);
        Ok(())
    }

    /// Puts a complete value where it belongs.
    fn put(&mut self, node: Node, anchor: usize) -> Result<(), InvalidPolicy> {
        self.count(1, node.line)?;
        if anchor != 0 {
            self.count(node.values(), node.line)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.document = Some(node),
            Some(Unfinished::List(list)) => list.push(node),
            Some(Unfinished::Map(map)) => map.put(node)?,
        }
        Ok(())
    }

    fn count(&mut self, values: usize, line: usize) -> Result<(), InvalidPolicy> {
        self.values_left = self
            .values_left
            .checked_sub(values)
            .ok_or_else(|| InvalidPolicy::at(line, format!("more than {MAX_VALUES} values, aliases replaced")))?;
        Ok(())
    }
}

impl Node {
    /// How deep lists and maps stand in each other: 0 for a scalar. At most [`MAX_DEPTH`], so recursion is bounded.
    fn depth(&self) -> usize {
        match &self.value {
            Value::List(list) => 1 + list.iter().map(Self::depth).max().unwrap_or(0),
            Value::Map(members) => 1 + members.iter().map(|member| member.value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// How many values it is made of, with its text counted by [`TEXT_OF_A_VALUE`].
    fn values(&self) -> usize {
        let text = |text: &str| text.len() / TEXT_OF_A_VALUE;
        match &self.value {
            Value::Null | Value::Bool(_) => 1,
            Value::Number(scalar) | Value::Text(scalar) => 1 + text(scalar),
            Value::List(list) => 1 + list.iter().map(Self::values).sum::<usize>(),
            Value::Map(members) => {
                1 + members.iter().map(|member| text(&member.name) + member.value.values()).sum::<usize>()
            }
        }
    }

    /// The value as the name of a map's member.
    fn into_name(self) -> Result<String, InvalidPolicy> {
        match self.value {
            Value::Text(text) | Value::Number(text) => Ok(text),
            Value::Bool(value) => Ok(value.to_string()),
            Value::Null => Ok("null".to_owned()),
            Value::List(_) | Value::Map(_) => {
                Err(InvalidPolicy::at(self.line, "a list or map stands where a field's name is expected"))
            }
        }
    }
}

fn too_deep(line: usize) -> InvalidPolicy {
    InvalidPolicy::at(line, format!("nested deeper than {MAX_DEPTH}"))
}

fn twice(name: &str, line: usize) -> InvalidPolicy {
    InvalidPolicy::at(line, format!("{} stands there twice", in_quotes(name)))
}

/// The text in quotes, on one line and cut to a length fit for a message.
pub(super) fn in_quotes(text: &str) -> String {
    const LONGEST: usize = 80;
    format!("\"{}\"", beginning(text.chars(), LONGEST))
}

#[cfg(test)]
mod tests;
