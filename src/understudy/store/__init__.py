"""Layout on disk: manifests, face sets, checkpoints, event files, reports: file names, schemas, hashes."""
