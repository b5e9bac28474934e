"""What a folder of scans holds, for `medcontext init` to describe: files, cases, label values, names."""
