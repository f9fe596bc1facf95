//! The tools that are built on demand.

use std::{fs, process::Command};

use infmon_control_plane::{ControlPlane, HelmVersion, Tools};

#[test]
fn each_helm_installs_a_chart() -> anyhow::Result<()> {
    let plane = ControlPlane::shared()?;
    let chart = tempfile::tempdir()?;
    fs::create_dir(chart.path().join("templates"))?;
    fs::write(
        chart.path().join("Chart.yaml"),
        "{apiVersion: v2, name: sample, version: 0.1.0, kubeVersion: '>=1.34.0-0'}",
    )?;
    fs::write(
        chart.path().join("templates/config.yaml"),
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: {{ .Release.Name }}}, data: {version: {{ .Chart.Version | quote }}}}",
    )?;
    let chart = chart.path().display().to_string();
    for (version, number, release) in [(HelmVersion::V3, "v3.", "three"), (HelmVersion::V4, "v4.", "four")] {
        let said = plane.helm(version, &["version", "--template={{.Version}}"])?;
        assert!(said.starts_with(number), "{said}");
        assert!(
            plane
                .helm(version, &["template", release, &chart])?
                .contains("kind: ConfigMap")
        );
        plane.helm(version, &["install", release, &chart])?;
        plane.kubectl(&["get", "configmap", release])?;
        plane.helm(version, &["uninstall", release])?;
        plane.kubectl(&["get", "configmap", release]).unwrap_err();
    }
    Ok(())
}

#[test]
fn actionlint_refuses_a_broken_workflow() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let workflow = folder.path().join("ci.yml");
    let lint = || {
        Command::new(Tools::actionlint()?)
            .arg(&workflow)
            .output()
            .map_err(anyhow::Error::from)
    };
    let good = "on: push\njobs: {test: {runs-on: ubuntu-latest, steps: [{run: 'true'}]}}\n";
    fs::write(&workflow, good)?;
    assert!(lint()?.status.success());
    fs::write(&workflow, good.replace("steps", "stages"))?;
    assert!(!lint()?.status.success());
    Ok(())
}
