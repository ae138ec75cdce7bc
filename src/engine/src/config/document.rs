//! From TOML text to tables with places: types and names, before anything is connected.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value};
use stage_core::{KindEntry, Registry, Stage, text};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Diagnostic, OnBad, Origin, Setting, Source, StageSpec};

/// A value that points back at its text.
#[derive(Debug, Clone)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    /// Shared, as there may be as many of these as the text has words.
    pub(super) origin: Arc<Origin>,
    pub(super) span: Range<usize>,
}

impl<T> Placed<T> {
    pub(super) fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(message).at(&self.origin, self.span.clone())
    }

    /// A value without a file: its text is all that there is to point at.
    fn alone(origin: &str, text: String, value: T) -> Self {
        Self {
            value,
            span: 0..text.len(),
            origin: Arc::new(Origin {
                name: origin.to_owned(),
                text,
            }),
        }
    }
}

/// `inputs`, as written.
#[derive(Debug, Clone)]
pub(super) enum RawInputs {
    /// For a kind with one port.
    List(Vec<Placed<String>>),
    /// By port.
    Ports(Vec<(Placed<String>, Vec<Placed<String>>)>),
}

pub(super) struct RawStage {
    pub(super) name: Placed<String>,
    pub(super) entry: KindEntry,
    pub(super) stage: Box<dyn Stage>,
    pub(super) params: Value,
    pub(super) inputs: Option<RawInputs>,
    /// Ports that need no input.
    pub(super) provided: BTreeSet<String>,
}

pub(super) struct Document {
    pub(super) sources: Vec<(Placed<String>, Source)>,
    pub(super) stages: Vec<RawStage>,
}

impl Document {
    pub(super) fn parse(
        origin: &Arc<Origin>,
        registry: &Registry,
        settings: &[Setting],
    ) -> Result<Self, Diagnostic> {
        let reader = Reader { origin };
        let root = DeTable::parse(&origin.text).map_err(|error| {
            let diagnostic = Diagnostic::new(error.message());
            match error.span() {
                Some(span) => diagnostic.at(origin, span),
                None => diagnostic,
            }
        })?;
        let mut document = Self {
            sources: Vec::new(),
            stages: Vec::new(),
        };
        let mut overrides = parse_settings(settings)?;
        for (key, value) in root.get_ref() {
            match key.get_ref().as_ref() {
                "sources" => {
                    for (name, value) in reader.table(value, "`sources`")? {
                        let name = reader.name(name)?;
                        let source = reader.source(&name, value)?;
                        document.sources.push((name, source));
                    }
                }
                "stages" => {
                    for (name, value) in reader.table(value, "`stages`")? {
                        let name = reader.name(name)?;
                        let stage = reader.stage(name, value, registry, &mut overrides)?;
                        document.stages.push(stage);
                    }
                }
                other => {
                    return Err(Diagnostic::new(format!("unknown table `{other}`"))
                        .at(origin, key.span())
                        .nearest(other, ["sources", "stages"]));
                }
            }
        }
        document.check_used(&overrides)?;
        Ok(document)
    }

    /// The same from values. Errors show the value that is wrong, after `origin`.
    pub(super) fn build(
        origin: &str,
        sources: &[&str],
        stages: Vec<StageSpec>,
        registry: &Registry,
        settings: &[Setting],
    ) -> Result<Self, Diagnostic> {
        let placed = |text: String| Placed::alone(origin, text.clone(), text);
        let mut overrides = parse_settings(settings)?;
        let mut document = Self {
            sources: Vec::new(),
            stages: Vec::new(),
        };
        for name in sources {
            let name = placed((*name).to_owned());
            check_name(&name)?;
            document
                .sources
                .push((name.clone(), Source::unbound(&name.value)));
        }
        for spec in stages {
            let name = placed(spec.name);
            check_name(&name)?;
            let entry = kind_entry(&placed(spec.kind), registry)?;
            let defaults = entry.defaults();
            let mut given = Vec::new();
            for (key, value) in spec.params {
                let value = Placed::alone(origin, value.to_string(), value);
                flatten_json(
                    vec![key.clone()],
                    &placed(key),
                    &value,
                    &defaults,
                    &mut given,
                );
            }
            let ports = spec.inputs.into_iter().map(|(port, names)| {
                let names = names.into_iter().map(&placed).collect();
                (placed(port), names)
            });
            document.stages.push(resolve_stage(
                name,
                entry,
                Some(RawInputs::Ports(ports.collect())),
                spec.provided,
                given,
                &mut overrides,
            )?);
        }
        document.check_used(&overrides)?;
        Ok(document)
    }

    /// Every override must name a stage.
    fn check_used(&self, overrides: &[Override]) -> Result<(), Diagnostic> {
        let Some(unused) = overrides.iter().find(|o| !o.used) else {
            return Ok(());
        };
        let stages = self.stages.iter().map(|s| s.name.value.as_str());
        Err(unused
            .stage
            .error(format!("there is no stage `{}`", unused.stage.value))
            .nearest(&unused.stage.value, stages))
    }
}

/// Refuses what cannot name a source or a stage.
fn check_name(name: &Placed<String>) -> Result<(), Diagnostic> {
    let good = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let text = &name.value;
    if text.is_empty() || text.len() > 64 || !text.chars().all(good) {
        return Err(name
            .error(format!("`{text}` cannot be a name"))
            .hint("use letters, digits, `_` and `-`, at most 64"));
    }
    Ok(())
}

/// One `stage.key=value`.
struct Override {
    stage: Placed<String>,
    key: Placed<String>,
    value: Placed<Value>,
    used: bool,
}

fn parse_settings(settings: &[Setting]) -> Result<Vec<Override>, Diagnostic> {
    let mut overrides = Vec::with_capacity(settings.len());
    for setting in settings {
        let origin = Arc::new(Origin {
            name: setting.flag.clone(),
            text: setting.text.clone(),
        });
        let text = &setting.text;
        let shape = || {
            Diagnostic::new("expected STAGE.KEY=VALUE")
                .at(&origin, 0..text.len())
                .hint("for example `--set featurize.n_fft=2048`")
        };
        let equals = text.find('=').ok_or_else(shape)?;
        let dot = text[..equals].find('.').ok_or_else(shape)?;
        let raw = text[equals + 1..].trim();
        // What is no TOML value is a string: nobody wants to quote within quotes in a shell.
        let value = DeValue::parse(raw)
            .ok()
            .and_then(|value| to_json(value.get_ref()).ok())
            .unwrap_or_else(|| Value::String(raw.to_owned()));
        let placed = |from: usize, to: usize| Placed {
            value: text[from..to].trim().to_owned(),
            origin: Arc::clone(&origin),
            span: from..to,
        };
        overrides.push(Override {
            stage: placed(0, dot),
            key: placed(dot + 1, equals),
            value: Placed {
                value,
                origin: Arc::clone(&origin),
                span: equals + 1..text.len(),
            },
            used: false,
        });
    }
    Ok(overrides)
}

struct Reader<'a> {
    origin: &'a Arc<Origin>,
}

type Entry<'a, 'i> = (
    &'a Spanned<std::borrow::Cow<'i, str>>,
    &'a Spanned<DeValue<'i>>,
);

impl Reader<'_> {
    fn error(&self, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(message).at(self.origin, span)
    }

    fn placed<T>(&self, value: T, span: Range<usize>) -> Placed<T> {
        Placed {
            value,
            origin: Arc::clone(self.origin),
            span,
        }
    }

    fn name(&self, key: &Spanned<std::borrow::Cow<'_, str>>) -> Result<Placed<String>, Diagnostic> {
        let name = self.placed(key.get_ref().as_ref().to_owned(), key.span());
        check_name(&name)?;
        Ok(name)
    }

    fn table<'a, 'i>(
        &self,
        value: &'a Spanned<DeValue<'i>>,
        what: &str,
    ) -> Result<Vec<Entry<'a, 'i>>, Diagnostic> {
        match value.get_ref() {
            DeValue::Table(table) => Ok(table.iter().collect()),
            other => Err(self.error(
                value.span(),
                format!("{what} is {}, expected a table", type_name(other)),
            )),
        }
    }

    fn string(&self, value: &Spanned<DeValue<'_>>, key: &str) -> Result<String, Diagnostic> {
        value.get_ref().as_str().map(str::to_owned).ok_or_else(|| {
            let got = type_name(value.get_ref());
            self.error(value.span(), format!("`{key}` is {got}, expected a string"))
        })
    }

    /// A string or an array of strings.
    fn strings(
        &self,
        value: &Spanned<DeValue<'_>>,
        key: &str,
    ) -> Result<Vec<Placed<String>>, Diagnostic> {
        match value.get_ref() {
            DeValue::String(text) => Ok(vec![self.placed(text.clone().into_owned(), value.span())]),
            DeValue::Array(array) => array
                .iter()
                .map(|value| Ok(self.placed(self.string(value, key)?, value.span())))
                .collect(),
            other => Err(self.error(
                value.span(),
                format!(
                    "`{key}` is {}, expected a string or an array of strings",
                    type_name(other)
                ),
            )),
        }
    }

    fn source(
        &self,
        name: &Placed<String>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Source, Diagnostic> {
        let mut source = Source::unbound(&name.value);
        for (key, value) in self.table(value, &format!("source `{}`", name.value))? {
            match key.get_ref().as_ref() {
                "path" => source.path = Some(text::to_path(&self.string(value, "path")?)),
                "include" => source.include = self.globs(value, "include")?,
                "exclude" => source.exclude = self.globs(value, "exclude")?,
                "on_bad" => {
                    source.on_bad = match self.string(value, "on_bad")?.as_str() {
                        "fail" => OnBad::Fail,
                        "warn" => OnBad::Warn,
                        other => {
                            return Err(self.error(
                                value.span(),
                                format!("`on_bad` is \"{other}\", expected \"fail\" or \"warn\""),
                            ));
                        }
                    };
                }
                other => {
                    return Err(self
                        .error(
                            key.span(),
                            format!("unknown key `{other}` of source `{}`", name.value),
                        )
                        .nearest(other, ["path", "include", "exclude", "on_bad"]));
                }
            }
        }
        Ok(source)
    }

    fn globs(&self, value: &Spanned<DeValue<'_>>, key: &str) -> Result<Vec<String>, Diagnostic> {
        let globs = self.strings(value, key)?;
        for glob in &globs {
            globset::Glob::new(&glob.value)
                .map_err(|e| glob.error(format!("`{}` is no glob: {}", glob.value, e.kind())))?;
        }
        Ok(globs.into_iter().map(|glob| glob.value).collect())
    }

    fn stage(
        &self,
        name: Placed<String>,
        value: &Spanned<DeValue<'_>>,
        registry: &Registry,
        overrides: &mut [Override],
    ) -> Result<RawStage, Diagnostic> {
        let table = self.table(value, &format!("stage `{}`", name.value))?;
        let mut kind = name.clone();
        let mut inputs = None;
        let mut written = Vec::new();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "kind" => kind = self.placed(self.string(value, "kind")?, value.span()),
                "inputs" => inputs = Some(self.inputs(value)?),
                _ => written.push((key, value)),
            }
        }
        let entry = kind_entry(&kind, registry)?;
        let defaults = entry.defaults();
        let mut given = Vec::new();
        for (key, value) in written {
            self.flatten(Vec::new(), key, value, &defaults, &mut given)?;
        }
        resolve_stage(name, entry, inputs, BTreeSet::new(), given, overrides)
    }

    /// Takes a parameter, or each of those in a table of parameters.
    fn flatten(
        &self,
        mut path: Vec<String>,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        defaults: &Value,
        given: &mut Vec<Given>,
    ) -> Result<(), Diagnostic> {
        path.push(key.get_ref().clone().into_owned());
        if let (DeValue::Table(table), true) = (value.get_ref(), is_table(defaults, &path)) {
            for (key, value) in table {
                self.flatten(path.clone(), key, value, defaults, given)?;
            }
            return Ok(());
        }
        let json = to_json(value.get_ref()).map_err(|message| self.error(value.span(), message))?;
        given.push(Given {
            key: self.placed(path.join("."), key.span()),
            path,
            value: self.placed(json, value.span()),
        });
        Ok(())
    }

    fn inputs(&self, value: &Spanned<DeValue<'_>>) -> Result<RawInputs, Diagnostic> {
        let DeValue::Table(table) = value.get_ref() else {
            return Ok(RawInputs::List(self.strings(value, "inputs")?));
        };
        let ports = table
            .iter()
            .map(|(key, value)| {
                let port = self.placed(key.get_ref().clone().into_owned(), key.span());
                Ok((port, self.strings(value, key.get_ref())?))
            })
            .collect::<Result<_, Diagnostic>>()?;
        Ok(RawInputs::Ports(ports))
    }
}

/// A parameter that the user gives.
struct Given {
    /// Its name, after those of the tables that it stands in.
    path: Vec<String>,
    /// The same with dots between, where the user wrote it.
    key: Placed<String>,
    value: Placed<Value>,
}

impl Given {
    /// Puts its value into an object of parameters.
    fn put(&self, params: &mut Map<String, Value>) {
        let Some((name, tables)) = self.path.split_last() else {
            return;
        };
        let mut into = params;
        for table in tables {
            let entry = into.entry(table.as_str());
            let slot = entry.or_insert_with(|| Value::Object(Map::new()));
            match slot {
                Value::Object(map) => into = map,
                // A value that is no table stands there: its own error is the one to see.
                _ => return,
            }
        }
        into.insert(name.clone(), self.value.value.clone());
    }
}

/// The default of the parameter at `path`.
fn default_at<'a>(defaults: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(defaults, |value, key| value.get(key))
}

/// Whether a table of parameters stands at `path`.
fn is_table(defaults: &Value, path: &[String]) -> bool {
    let default = default_at(defaults, path).and_then(Value::as_object);
    default.is_some_and(|table| !table.is_empty())
}

/// As [`Reader::flatten`], of a value from the command line, which has one place.
fn flatten_json(
    path: Vec<String>,
    key: &Placed<String>,
    value: &Placed<Value>,
    defaults: &Value,
    given: &mut Vec<Given>,
) {
    if let (Value::Object(table), true) = (&value.value, is_table(defaults, &path)) {
        for (name, inner) in table {
            let mut path = path.clone();
            path.push(name.clone());
            let value = Placed {
                value: inner.clone(),
                ..value.clone()
            };
            flatten_json(path, key, &value, defaults, given);
        }
        return;
    }
    given.push(Given {
        key: Placed {
            value: path.join("."),
            ..key.clone()
        },
        path,
        value: value.clone(),
    });
}

/// Refuses a parameter whose name, or that of a table before it, the kind does not have.
fn check_param_name(given: &Given, defaults: &Value, of_stage: &str) -> Result<(), Diagnostic> {
    for depth in 0..given.path.len() {
        let table = default_at(defaults, &given.path[..depth]).and_then(Value::as_object);
        let name = &given.path[depth];
        let Some(table) = table else {
            let before = given.path[..depth].join(".");
            let message = format!("parameter `{before}` {of_stage} has no `{name}`");
            return Err(given.key.error(message));
        };
        if !table.contains_key(name) {
            let path = given.path[..=depth].join(".");
            let known: Vec<&str> = table.keys().map(String::as_str).collect();
            return Err(given
                .key
                .error(format!(
                    "unknown parameter `{path}` {of_stage}, which has {}",
                    known.join(", ")
                ))
                .nearest(name, known.iter().copied()));
        }
    }
    Ok(())
}

/// The kind that a stage names.
fn kind_entry(kind: &Placed<String>, registry: &Registry) -> Result<KindEntry, Diagnostic> {
    registry.get(&kind.value).copied().ok_or_else(|| {
        kind.error(format!("there is no stage kind `{}`", kind.value))
            .nearest(&kind.value, registry.iter().map(|entry| entry.kind))
    })
}

/// A stage of a known kind, its parameters overridden and read.
fn resolve_stage(
    name: Placed<String>,
    entry: KindEntry,
    inputs: Option<RawInputs>,
    provided: BTreeSet<String>,
    mut given: Vec<Given>,
    overrides: &mut [Override],
) -> Result<RawStage, Diagnostic> {
    let defaults = entry.defaults();
    for setting in overrides.iter_mut() {
        if setting.stage.value == name.value {
            setting.used = true;
            let (key, value) = (&setting.key, &setting.value);
            let path: Vec<_> = key.value.split('.').map(|k| k.trim().to_owned()).collect();
            given.retain(|other| !other.path.starts_with(&path));
            flatten_json(path, key, value, &defaults, &mut given);
        }
    }
    let (stage, params) = read_params(&name.value, &entry, &given, &name)?;
    Ok(RawStage {
        name,
        entry,
        stage,
        params,
        inputs,
        provided,
    })
}

/// Reads a kind's parameters one by one, so that each error points at its own line.
fn read_params(
    stage_name: &str,
    entry: &KindEntry,
    given: &[Given],
    stage_place: &Placed<String>,
) -> Result<(Box<dyn Stage>, Value), Diagnostic> {
    let of_stage = format!("of stage `{stage_name}` (kind `{}`)", entry.kind);
    // The value of the selector decides which other parameters there are.
    let mut chosen = Map::new();
    if let Some(one) = given
        .iter()
        .find(|one| Some(one.key.value.as_str()) == entry.selector)
    {
        one.put(&mut chosen);
        entry
            .parse(&Value::Object(chosen.clone()))
            .map_err(|error| {
                let message = format!("bad value of `{}` {of_stage}: {error}", one.key.value);
                one.value.error(message)
            })?;
    }
    let defaults = entry
        .parse(&Value::Object(chosen.clone()))
        .map_or(Value::Null, |(_, resolved)| resolved);
    let of_stage = match chosen.iter().next() {
        Some((name, value)) => format!("{of_stage} with {name} = {value}"),
        None => of_stage,
    };
    let mut params = Map::new();
    for one in given {
        let (key, value) = (&one.key, &one.value);
        check_param_name(one, &defaults, &of_stage)?;
        let mut alone = chosen.clone();
        one.put(&mut alone);
        if let Err(error) = entry.parse(&Value::Object(alone)) {
            return Err(value
                .error(format!("bad value of `{}` {of_stage}: {error}", key.value))
                .hint(match default_at(&defaults, &one.path) {
                    Some(Value::Null) | None => "leave it out for the default".to_owned(),
                    Some(default) => format!("the default is {default}"),
                }));
        }
        one.put(&mut params);
    }
    let (stage, resolved) = entry
        .parse(&Value::Object(params))
        .map_err(|error| stage_place.error(format!("bad parameters {of_stage}: {error}")))?;
    stage.validate().map_err(|error| {
        let place = given.iter().find(|one| one.key.value == error.key);
        let message = format!("bad parameter {of_stage}: {}", error.message);
        let diagnostic = match place {
            Some(one) => one.value.error(message),
            None => stage_place.error(message),
        };
        match &error.hint {
            Some(hint) => diagnostic.hint(hint),
            None => diagnostic,
        }
    })?;
    Ok((stage, resolved))
}

/// TOML to JSON. Whole floats become integers, so that `2` and `2.0` are equal everywhere.
fn to_json(value: &DeValue<'_>) -> Result<Value, String> {
    Ok(match value {
        DeValue::String(text) => Value::String(text.clone().into_owned()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Integer(integer) => {
            let parsed = i64::from_str_radix(integer.as_str(), integer.radix());
            Value::from(parsed.map_err(|_| format!("`{}` is too large", integer.as_str()))?)
        }
        DeValue::Float(float) => {
            let number: f64 = float
                .as_str()
                .parse()
                .map_err(|_| format!("`{}` is no number", float.as_str()))?;
            #[expect(clippy::cast_possible_truncation, reason = "checked: whole and small")]
            if number.fract() == 0.0 && number.abs() < 9e15 {
                Value::from(number as i64)
            } else {
                serde_json::Number::from_f64(number)
                    .map(Value::Number)
                    .ok_or_else(|| format!("`{}` is not finite", float.as_str()))?
            }
        }
        DeValue::Datetime(_) => return Err("a date is no parameter value".to_owned()),
        DeValue::Array(array) => Value::Array(
            array
                .iter()
                .map(|value| to_json(value.get_ref()))
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(table) => Value::Object(
            table
                .iter()
                .map(|(key, value)| {
                    Ok((
                        key.get_ref().clone().into_owned(),
                        to_json(value.get_ref())?,
                    ))
                })
                .collect::<Result<_, String>>()?,
        ),
    })
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
