//! The table of stage kinds: the one place that names the stages.

use stage_core::{KindEntry, Registry};

/// Every kind that pipeline.toml can use.
pub(crate) fn registry() -> Registry {
    Registry::new([
        KindEntry::of::<stage_decode::Decode>(),
        KindEntry::of::<stage_render::Render>(),
        KindEntry::of::<stage_featurize::Featurize>(),
        KindEntry::of::<stage_dataset::Dataset>(),
        KindEntry::of::<stage_train::Train>(),
        KindEntry::of::<stage_predict::Predict>(),
    ])
}

/// Every kind that a worker serves: besides those, what the commands that read one foreign file do.
pub(crate) fn in_worker() -> Registry {
    let kinds = registry();
    let commands = [
        KindEntry::of::<crate::cli::Look>(),
        KindEntry::of::<crate::cli::Transcode>(),
    ];
    Registry::new(kinds.iter().copied().chain(commands))
}

/// How the results of a kind are put into `out/`, if they are.
pub(crate) fn naming(kind: &str) -> Option<crate::cli::Naming> {
    match kind {
        "train" => Some(crate::cli::Naming::Plain),
        "predict" => Some(crate::cli::Naming::Prompt),
        _ => None,
    }
}
