//! A llama-server router: the bodies of its models as one view, as the product adds them up.

use super::body::look;
use super::failure::Failure;
use super::second::add_slots;
use super::server::RouterModel;
use super::text::View;
use super::way::Way;
use infmon_engines::{Engine, Family, Reading, merge_models};

/// The view of the models that the router at `name` has loaded.
pub(super) fn view(name: &str, models: Vec<RouterModel>) -> Result<View, Failure> {
    let mut all = View::default();
    let mut readings = Vec::with_capacity(models.len());
    for RouterModel {
        name: model,
        body,
        slots,
    } in models
    {
        let mut view = look(&format!("{name}, model {model}"), &body, &Way::Engine(Engine::LlamaCpp))?;
        if let Some(slots) = slots {
            add_slots(&mut view, &slots);
        }
        add(&mut all, &view);
        let reading = Reading {
            sample: view.sample,
            missing: view.missing,
            hint: view.next.join("; "),
        };
        readings.push((model, reading));
    }
    let Reading { sample, missing, hint } = merge_models(readings);
    all.name = name.to_owned();
    all.sample = sample;
    all.sample.engine = Some(Engine::LlamaCpp);
    all.missing = missing;
    all.next = Some(hint).filter(|hint| !hint.is_empty()).into_iter().collect();
    Ok(all)
}

/// Adds the series of one model.
fn add(all: &mut View, one: &View) {
    for source in &one.sources {
        match all.sources.iter_mut().find(|known| known.field == source.field) {
            Some(known) => known.series += source.series,
            None => all.sources.push(source.clone()),
        }
    }
    for Family { name, series } in &one.ignored {
        match all.ignored.iter_mut().find(|known| known.name == *name) {
            Some(known) => known.series += series,
            None => all.ignored.push(Family {
                name: name.clone(),
                series: *series,
            }),
        }
    }
}
