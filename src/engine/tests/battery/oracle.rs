//! What the toy graph must give and the least that must be executed for it, computed without the
//! engine: contents in, the names of the work out.

use std::collections::{BTreeMap, BTreeSet};

use super::toy::Toy;

/// Everything that the user can change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct World {
    /// Name in the corpus → content.
    pub(crate) files: BTreeMap<String, String>,
    /// The prompt, if one is bound.
    pub(crate) prompt: Option<String>,
    pub(crate) upper: bool,
    pub(crate) limit: u32,
    pub(crate) letters: bool,
    pub(crate) unit: String,
    pub(crate) folders: bool,
    pub(crate) times: u32,
    pub(crate) mark: String,
    pub(crate) reverse: bool,
    pub(crate) between: String,
}

/// What must come out.
pub(crate) struct Expected {
    /// Work that is needed and not known.
    pub(crate) work: BTreeSet<String>,
    /// What is told; `None` if something bad is in the way.
    pub(crate) told: Option<String>,
}

/// What reading a text gives: the body as it is and as it is passed on.
type Text = (String, String);

impl World {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let own = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        Self {
            files: files.iter().map(own).collect(),
            prompt: None,
            upper: false,
            limit: 0,
            letters: false,
            unit: String::new(),
            folders: false,
            times: 2,
            mark: "!".to_owned(),
            reverse: false,
            between: " ".to_owned(),
        }
    }

    /// The parameters, as for `--set`.
    pub(crate) fn settings(&self) -> Vec<String> {
        vec![
            format!("read.upper={}", self.upper),
            format!("read.limit={}.0", self.limit),
            format!("count.letters={}", self.letters),
            format!("sum.unit={:?}", self.unit),
            format!("sum.folders={}", self.folders),
            format!("tell.times={}", self.times),
            format!("tell.mark={:?}", self.mark),
            format!("codec.reverse={}", self.reverse),
            format!("encode.between={:?}", self.between),
        ]
    }

    /// Makes the files of a project those of this world, touching only what differs.
    pub(crate) fn put(&self, toy: &Toy, before: &Self) {
        for name in before.files.keys() {
            if !self.files.contains_key(name) {
                std::fs::remove_file(toy.path(name)).unwrap();
            }
        }
        for (name, text) in &self.files {
            if before.files.get(name) != Some(text) {
                toy.write(name, text);
            }
        }
        if let Some(prompt) = &self.prompt
            && before.prompt.as_ref() != Some(prompt)
        {
            std::fs::write(toy.dir.path().join(PROMPT), prompt).unwrap();
        }
    }

    fn read(&self, content: &str) -> Option<Text> {
        let body = match content.split_once('\n') {
            Some((tag, body)) if tag.starts_with('#') => body,
            _ => content,
        };
        let passed = if self.upper {
            body.to_uppercase()
        } else {
            body.to_owned()
        };
        (!body.contains("bad")).then(|| (body.to_owned(), passed))
    }

    fn count(&self, text: &Text) -> usize {
        if self.letters {
            text.1.len()
        } else {
            text.1.split_whitespace().count()
        }
    }

    fn read_work(&self, content: &str) -> String {
        format!("read {} {} {content:?}", self.upper, self.limit)
    }

    fn count_work(&self, text: &Text) -> String {
        format!("count {} {text:?}", self.letters)
    }

    /// The texts of the corpus, if all can be read and there are any.
    fn texts(&self) -> Option<BTreeSet<Text>> {
        let texts = self.files.values().map(|content| self.read(content));
        texts
            .collect::<Option<BTreeSet<Text>>>()
            .filter(|texts| !texts.is_empty())
    }

    /// The letters of the codec, if it can be fitted.
    fn letters_of_codec(&self) -> Option<Vec<char>> {
        let texts = self.texts()?;
        let words = texts.iter().flat_map(|text| text.1.split_whitespace());
        let letters: BTreeSet<char> = words.filter_map(|word| word.chars().next()).collect();
        let mut letters: Vec<char> = letters.into_iter().collect();
        if self.reverse {
            letters.reverse();
        }
        Some(letters)
    }

    fn encode(&self, text: &Text, letters: &[char]) -> String {
        let place = |word: &str| {
            let place = letters.iter().position(|letter| word.starts_with(*letter));
            place.map_or("?".to_owned(), |place| place.to_string())
        };
        let codes: Vec<_> = text.1.split_whitespace().map(place).collect();
        codes.join(&self.between)
    }

    fn encode_work(&self, text: &Text, letters: &[char]) -> String {
        format!("encode {:?} {text:?} {letters:?}", self.between)
    }

    /// What the codec, and all that is encoded with it, needs.
    fn expect_codes(&self, need: &mut impl FnMut(String)) {
        let (Some(texts), Some(letters)) = (self.texts(), self.letters_of_codec()) else {
            return;
        };
        need(format!("codec whole {} {texts:?}", self.reverse));
        let mut packed = BTreeSet::new();
        for text in &texts {
            need(self.encode_work(text, &letters));
            packed.insert((&text.0, self.encode(text, &letters)));
        }
        // The chain names the parameters of all that prepares the codes, and the codec.
        need(format!(
            "pack whole {packed:?} {letters:?} {} {} {:?}",
            self.upper, self.limit, self.between
        ));
        if let Some(text) = self.prompt.as_ref().and_then(|prompt| self.read(prompt)) {
            need(self.encode_work(&text, &letters));
        }
    }

    /// What the world needs; afterwards `known` holds it, too.
    pub(crate) fn expect(&self, known: &mut BTreeSet<String>) -> Expected {
        let mut work = BTreeSet::new();
        let mut need = |name: String| {
            if known.insert(name.clone()) {
                work.insert(name);
            }
        };
        self.expect_codes(&mut need);
        let mut blocked = false;
        // Distinct (body, count, label): what the sum is given.
        let mut members = BTreeSet::new();
        for (name, content) in &self.files {
            let Some(text) = self.read(content) else {
                blocked = true;
                continue;
            };
            need(self.read_work(content));
            need(self.count_work(&text));
            let n = self.count(&text);
            need(format!("sum item {n}"));
            let label = self.folders.then(|| name.split('/').next().unwrap_or(""));
            members.insert((text.0, n, label));
        }
        let mut extra = None;
        if let Some(content) = &self.prompt {
            match self.read(content) {
                Some(text) => {
                    need(self.read_work(content));
                    need(self.count_work(&text));
                    let n = self.count(&text);
                    extra = Some((text.0, n));
                }
                None => blocked = true,
            }
        }
        // A bad prompt stands in the way of what is told, not of the sum.
        let bad_corpus = self.files.values().any(|text| self.read(text).is_none());
        if bad_corpus || members.is_empty() {
            return Expected { work, told: None };
        }
        let total: usize = members.iter().map(|(_, n, _)| n).sum();
        need(format!(
            "sum whole {:?} {} {members:?}",
            self.unit, self.folders
        ));
        if blocked {
            return Expected { work, told: None };
        }
        let sum = format!("{total} {} of {}", self.unit, members.len());
        need(format!("tell whole {} {sum:?} {extra:?}", self.times));
        let text = sum.repeat(self.times as usize);
        need(format!(
            "tell finish {:?} {text:?} {sum:?} {extra:?}",
            self.mark
        ));
        Expected {
            work,
            told: Some(text + &self.mark),
        }
    }

    /// The work that the engine calls so (`stage part item`), in the oracle's words; whole parts
    /// by their beginning.
    pub(crate) fn work_of(&self, line: &str) -> String {
        let mut words = line.splitn(3, ' ');
        let (stage, part) = (words.next().unwrap(), words.next().unwrap());
        let Some(item) = words.next() else {
            return format!("{stage} {part}");
        };
        let content = match &self.prompt {
            Some(prompt) if item == PROMPT => prompt,
            _ => &self.files[item],
        };
        let text = self.read(content).unwrap();
        match stage {
            "read" => self.read_work(content),
            "count" => self.count_work(&text),
            "encode" => self.encode_work(&text, &self.letters_of_codec().unwrap()),
            _ => format!("sum item {}", self.count(&text)),
        }
    }

    /// Asserts that what the engine executed is this work, each piece once.
    pub(crate) fn check_work(&self, executed: &[String], expected: &BTreeSet<String>) {
        let short = |name: &String| {
            let whole = ["sum whole ", "tell ", "codec whole ", "pack whole "];
            if whole.iter().any(|whole| name.starts_with(whole)) {
                name.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ")
            } else {
                name.clone()
            }
        };
        let mut got: Vec<_> = executed.iter().map(|line| self.work_of(line)).collect();
        got.sort();
        let mut want: Vec<_> = expected.iter().map(short).collect();
        want.sort();
        assert_eq!(got, want, "executed, and the least that is needed");
    }
}

/// Name of the prompt's file, beside the corpus.
pub(crate) const PROMPT: &str = "the prompt.txt";
