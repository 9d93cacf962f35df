"""Makes a release whole: snapshot, environment, model card, bill of materials, provenance, one manifest over all."""
