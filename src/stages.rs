//! The table of stage kinds: the one place of the program that names them.

use stage_core::{Kind, KindEntry, Registry};
use stage_predict::Predict;

/// Every kind that pipeline.toml can use.
pub(crate) fn registry() -> Registry {
    Registry::new([
        KindEntry::of::<stage_decode::Decode>(),
        KindEntry::of::<stage_render::Render>(),
        KindEntry::of::<stage_featurize::Featurize>(),
        KindEntry::of::<stage_dataset::Dataset>(),
        KindEntry::of::<stage_train::Train>(),
        KindEntry::of::<Predict>(),
    ])
}

/// Source that `--prompt` binds.
pub(crate) const PROMPT: &str = "prompt";
/// Port through which a kind reads a trained model.
pub(crate) const MODEL_PORT: &str = "model";
/// The models that the training stage knows.
pub(crate) fn models() -> &'static [stage_train::models::ModelEntry] {
    stage_train::models::MODELS
}

/// File of the best model by validation, in the artifact of a stage that trains.
pub(crate) const BEST_MODEL: &str = stage_train::MODEL;
/// File of the model after the last step.
pub(crate) const LAST_MODEL: &str = stage_train::LAST;

/// How a kind that continues prompts is connected to the preprocessing that a model file
/// describes.
pub(crate) struct Continuation {
    /// Port that takes the prompt as the training data was prepared.
    pub(crate) prepared: &'static str,
    /// Port that takes what the last stages of the preprocessing read.
    pub(crate) before: &'static str,
}

/// The ports of `kind`, if it continues prompts with a model.
pub(crate) fn continuation(kind: &str) -> Option<Continuation> {
    (kind == Predict::KIND).then_some(Continuation {
        prepared: "prompt",
        before: "sound",
    })
}

/// A stage of the pipeline.toml that `pipeline init` writes.
pub(crate) struct Template {
    /// Its kind, which is also its name.
    pub(crate) kind: &'static str,
    /// Its inputs, in TOML.
    pub(crate) inputs: &'static str,
    /// What it does, in a comment.
    pub(crate) about: &'static str,
}

/// The stages of a new project, in the order of the data.
pub(crate) const TEMPLATE: [Template; 6] = [
    Template {
        kind: stage_decode::Decode::KIND,
        inputs: r#"["corpus", "prompt"]"#,
        about: "recordings → PCM",
    },
    Template {
        kind: stage_render::Render::KIND,
        inputs: r#"["corpus", "prompt"]"#,
        about: "scores (MusicXML, MIDI) → PCM",
    },
    Template {
        kind: stage_featurize::Featurize::KIND,
        inputs: r#"["decode", "render"]"#,
        about: "PCM → spectra",
    },
    Template {
        kind: stage_dataset::Dataset::KIND,
        inputs: r#"["featurize@corpus"]"#,
        about: "spectra → memory-mapped segments, split and statistics",
    },
    Template {
        kind: stage_train::Train::KIND,
        inputs: r#"["dataset"]"#,
        about: "data set → model",
    },
    Template {
        kind: Predict::KIND,
        inputs: r#"{ model = "train", prompt = "featurize@prompt", sound = ["decode@prompt", "render@prompt"] }"#,
        about: "model and prompt → music",
    },
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Commands ask the table what a kind delivers and needs; they never name one.
    #[test]
    fn no_command_names_a_kind() {
        let commands = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli");
        for entry in std::fs::read_dir(commands).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            for kind in registry().iter() {
                let literal = format!("\"{}\"", kind.kind);
                assert!(
                    !text.contains(&literal),
                    "{} names {literal}",
                    path.display()
                );
            }
        }
    }

    #[test]
    fn kinds_that_continue_prompts_have_the_ports() {
        for entry in registry().iter() {
            let Some(ports) = continuation(entry.kind) else {
                continue;
            };
            let (stage, _) = entry.parse(&serde_json::json!({})).unwrap();
            for port in [MODEL_PORT, ports.prepared, ports.before] {
                assert!(stage.ports().iter().any(|p| p.name == port), "{port}");
            }
        }
    }
}
