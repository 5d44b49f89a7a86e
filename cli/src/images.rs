//! `cellblock images`: the store of unpacked images.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use bytesize::ByteSize;
use cellblock::image::{Removed, Store, StoredImage};
use clap::{Args, Subcommand, ValueHint};
use comfy_table::{Table, presets::NOTHING};
use serde_json::json;

use crate::interrupts::Interrupts;
use crate::runtime::block_on;
use crate::stdout::print;

/// List, import and remove container images
///
/// Images are unpacked once, into a store that all containers share. `run`, `console` and `grade`
/// take an image by its name in the store, or import it when they are given its path.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
    /// Use the store in this directory
    ///
    /// By default it is /var/lib/cellblock for root, and $XDG_CACHE_HOME/cellblock or
    /// ~/.cache/cellblock for other users.
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    store: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  skopeo copy docker://python:3.12 oci-archive:python.tar:3.12
  cellblock images import python.tar --name python
  cellblock run --image python python3 -c 'print(6 * 7)'
  cellblock images rm python

Exit code: 0 if all was done, 1 if not, 2 if the arguments are wrong.";

#[derive(Subcommand)]
enum Action {
    /// List the images of the store
    Ls {
        /// Print the images as a line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Unpack an image into the store, and print its digest
    ///
    /// Reads an OCI layout, an archive of one, or an archive of `docker save`. The layers may be
    /// compressed with gzip or zstd. An image that is already there only gets the name.
    Import {
        /// The layout or the archive
        #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
        path: PathBuf,
        /// Choose one of several images, by its tag or its whole reference
        #[arg(long)]
        tag: Option<String>,
        /// Name the image [default: the reference that it has in PATH]
        #[arg(long)]
        name: Option<String>,
    },
    /// Remove images, by their names or digests, and the layers that no other image needs
    ///
    /// An image that a container uses leaves the list at once, and the disk with a later `rm` or
    /// `prune`.
    Rm {
        /// Names, or digests, of which 8 digits are enough
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Remove the images without a name, and everything that no image needs
    Prune,
}

pub fn main(options: Options) -> ExitCode {
    match block_on(act(options)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cellblock images: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the options say, until a signal ends it.
async fn act(options: Options) -> Result<ExitCode, Box<dyn Error>> {
    let mut interrupts = Interrupts::catch()?;
    let act = async {
        let directory = options.store.map_or_else(Store::default_directory, Ok)?;
        let store = Store::open(directory).await?;
        match options.action {
            Action::Ls { json } => list(&store, json).await,
            Action::Import { path, tag, name } => {
                let image = store.import(path, tag.as_deref(), name.as_deref()).await?;
                Ok(print(format_args!("{}\n", image.digest))?)
            }
            Action::Rm { images } => remove(&store, &images).await,
            Action::Prune => {
                tell_of_use(store.prune().await?);
                Ok(())
            }
        }
    };
    tokio::select! {
        done = act => done.map(|()| ExitCode::SUCCESS),
        code = interrupts.recv() => Ok(ExitCode::from(code)),
    }
}

async fn list(store: &Store, as_json: bool) -> Result<(), Box<dyn Error>> {
    let images = store.images().await?;
    if as_json {
        let images: Vec<_> = images.iter().map(json_of).collect();
        return Ok(print(format_args!("{}\n", json!({ "images": images })))?);
    }
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(["NAME", "DIGEST", "SIZE", "LAYERS", "CREATED"]);
    for image in &images {
        let digest: String = image.digest.to_string().chars().skip("sha256:".len()).take(12).collect();
        // The time without its fraction.
        let created: String = image.created.iter().flat_map(|time| time.chars().take(19)).collect();
        let names = if image.names.is_empty() { "-".to_owned() } else { image.names.join(", ") };
        table.add_row([names, digest, ByteSize(image.bytes).to_string(), image.layers.len().to_string(), created]);
    }
    let lines: Vec<_> = table.lines().map(|line| line.trim().to_owned()).collect();
    Ok(print(format_args!("{}\n", lines.join("\n")))?)
}

fn json_of(image: &StoredImage) -> serde_json::Value {
    let config = &image.config;
    let env: Vec<_> = config.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    json!({
        "digest": image.digest.to_string(),
        "names": image.names,
        "bytes": image.bytes,
        "layers": image.layers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "created": image.created,
        "env": env,
        "work_dir": config.work_dir,
        "user": config.user,
        "command": config.command,
    })
}

async fn remove(store: &Store, images: &[String]) -> Result<(), Box<dyn Error>> {
    for image in images {
        tell_of_use(store.remove(image).await?);
    }
    Ok(())
}

fn tell_of_use(removed: Removed) {
    if removed.in_use > 0 {
        eprintln!("cellblock images: {} unpacked images stay on disk, because they are in use", removed.in_use);
    }
}
