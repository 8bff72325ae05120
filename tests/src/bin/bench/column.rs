//! Who is measured: each program, and what its replica is asked to be. Makes scenes.

use std::fmt;

use clap::ValueEnum;
use holdfast_tests::scene::Scene;
use holdfast_tests::tool::Tool;

/// Whose figure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Column {
    Bare,
    #[value(name = "0.3.13")]
    V03,
    #[value(name = "0.5.17")]
    V05,
    Ours,
    /// Ours with `format: ltx`.
    Ltx,
}

impl Column {
    /// The program; `None` for no agent at all.
    pub(crate) fn tool(self) -> Option<Tool> {
        match self {
            Self::Bare => None,
            Self::V03 => Some(Tool::V03),
            Self::V05 => Some(Tool::V05),
            Self::Ours | Self::Ltx => Some(Tool::Holdfast),
        }
    }

    /// What its replica is configured with beside the defaults.
    pub(crate) fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Ltx => &["format: ltx"],
            Self::Bare | Self::V03 | Self::V05 | Self::Ours => &[],
        }
    }

    /// A database with a replica in a directory, configured for it.
    pub(crate) fn scene(self) -> Scene {
        let scene = Scene::on_file();
        scene.configure(&[], self.keys());
        scene
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bare => "bare",
            Self::V03 => "0.3.13",
            Self::V05 => "0.5.17",
            Self::Ours => "ours",
            Self::Ltx => "ours, LTX",
        })
    }
}
