//! What the commands watch: servers found on this machine, a simulation, or the monitors of a file.

use crate::args::{Demo, Run};
use crate::discovery::{self, Answer, Gpus, Server};
use crate::monitor_file::{Declared, MonitorFile, Secrets};
use crate::monitors;
use crate::pipeline::play;
use crate::simulation::Simulation;
use crate::summary::count;
use infmon_crds::v1alpha1::InferenceMonitor;
use infmon_evaluation::AddressPolicy;
use infmon_gpu::MonitorOptions;
use infmon_node_daemon::GpuOptions;
use infmon_runtime::Shutdown;

/// What is watched, and how.
pub(crate) struct Scene {
    /// After the version, on the first line.
    pub(crate) headline: String,
    pub(crate) monitors: Vec<InferenceMonitor>,
    /// Secrets that the monitors name.
    pub(crate) secrets: Secrets,
    pub(crate) policy: AddressPolicy,
    pub(crate) gpu: GpuOptions,
    /// The kernel's log to read XIDs from.
    pub(crate) kernel_log: Option<std::path::PathBuf>,
    pub(crate) simulation: Option<Simulation>,
    pub(crate) file: Option<MonitorFile>,
}

/// `infmon demo`
///
/// # Errors
/// When a port is taken, or the simulation cannot start.
pub async fn demo(demo: Demo) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let ports: &[u16] = if demo.simulate {
        &[]
    } else {
        &discovery::WELL_KNOWN_PORTS
    };
    let look = async {
        let gpus = discovery::gpus(MonitorOptions::default());
        if demo.simulate {
            (Gpus::None, Vec::new())
        } else {
            tokio::join!(gpus, discovery::servers(ports))
        }
    };
    let (gpus, found) = tokio::select! {
        found = look => found,
        () = shutdown.requested() => return Ok(()),
    };
    let scene = if found.is_empty() {
        simulated(&gpus, demo.simulate).await?
    } else {
        real(&gpus, &found)?
    };
    play(scene, demo.session, shutdown).await
}

/// `infmon run`
///
/// # Errors
/// When the file cannot be used, or a port is taken.
pub async fn run(run: Run) -> anyhow::Result<()> {
    let warn = |words: &str| eprintln!("infmon: {words}");
    let credentials = run.access.read(|words| warn(&words)).map_err(anyhow::Error::msg)?;
    let mut file = MonitorFile::new(&run.file, run.allow_host, credentials);
    let Declared {
        monitors,
        secrets,
        warnings,
    } = file.read()?;
    warnings.iter().for_each(|words| warn(words));
    let gpu = if run.no_gpu {
        GpuOptions::Off
    } else {
        GpuOptions::Nvml(MonitorOptions {
            library_path: run.nvml_library,
            ..MonitorOptions::default()
        })
    };
    let scene = Scene {
        headline: format!("{} of {}", count(monitors.len() as u64, "monitor"), run.file.display()),
        monitors,
        secrets,
        policy: file.policy(),
        gpu,
        kernel_log: run.kernel_log,
        simulation: None,
        file: Some(file),
    };
    play(scene, run.session, Shutdown::on_signals()?).await
}

fn loopback_only() -> AddressPolicy {
    AddressPolicy {
        allow_loopback: true,
        ..AddressPolicy::default()
    }
}

async fn simulated(gpus: &Gpus, by_wish: bool) -> anyhow::Result<Scene> {
    let simulation = Simulation::start(*gpus == Gpus::None).await?;
    let why = match (by_wish, gpus) {
        (true, _) => "as --simulate asks".to_owned(),
        (false, Gpus::None) => "no GPU and no inference server found here".to_owned(),
        (false, gpus) => format!("no inference server found here; real: {}", gpu_words(gpus)),
    };
    let options = MonitorOptions {
        library_path: simulation.nvml_library(),
        ..MonitorOptions::default()
    };
    Ok(Scene {
        headline: format!("SIMULATED: {} ({why})", simulation.words()),
        monitors: simulation.monitors(),
        secrets: Secrets::default(),
        policy: loopback_only(),
        gpu: GpuOptions::Nvml(options),
        kernel_log: None,
        simulation: Some(simulation),
        file: None,
    })
}

fn real(gpus: &Gpus, found: &[Server]) -> anyhow::Result<Scene> {
    let mut words = Vec::new();
    let mut monitors = Vec::new();
    for server in found {
        let refusal = match server.answer {
            Answer::Metrics(_) => String::new(),
            Answer::Refusal(status) => format!(", answers {status}"),
        };
        words.push(format!("{} ({}{refusal})", server.name(), server.address));
        let endpoint = ("server".to_owned(), server.address.to_string());
        monitors.push(monitors::of_servers(
            &server.name(),
            &[endpoint],
            &serde_json::json!({}),
        )?);
    }
    Ok(Scene {
        headline: format!("watching {}, {}", words.join(", "), gpu_words(gpus)),
        monitors,
        secrets: Secrets::default(),
        policy: loopback_only(),
        // Where no GPU was found, its session goes on looking and says what it lacks.
        gpu: GpuOptions::Nvml(MonitorOptions::default()),
        kernel_log: None,
        simulation: None,
        file: None,
    })
}

fn gpu_words(gpus: &Gpus) -> String {
    match gpus {
        Gpus::None => "no GPU found".into(),
        Gpus::Silent => "a GPU driver that does not answer".into(),
        Gpus::Found(names) => {
            let first = names.first().map_or("", String::as_str);
            format!("{} ({first})", count(names.len() as u64, "GPU"))
        }
    }
}
