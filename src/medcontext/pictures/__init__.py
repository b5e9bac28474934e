"""Pictures of cases: slices, outlines, mosaics; for the training, the command line and the report alike."""
