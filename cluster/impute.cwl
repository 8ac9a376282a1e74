#!/usr/bin/env cwl-runner
# A step of a workflow: cwltool impute.cwl --counts counts.h5ad, or --folder counts.zarr --restored restored.zarr
cwlVersion: v1.2
class: CommandLineTool
baseCommand: [scdae, impute]
requirements:
  ResourceRequirement:
    coresMin: 2
    ramMin: 2000
  EnvVarRequirement:
    envDef:
      OMP_NUM_THREADS: $(runtime.cores),1 # has to be text: of threads within threads one each
inputs:
  counts:
    type: File?
    doc: .h5ad, 10x .h5 or .loom
    inputBinding: {position: 1}
  folder:
    type: Directory?
    doc: In place of it a .zarr store, or the folder of a 10x matrix
    inputBinding: {position: 1}
  restored:
    type: string
    default: restored.h5ad
    doc: Name of the result, .h5ad or .zarr
    inputBinding: {position: 2}
  batch_key:
    type: string?
    inputBinding: {prefix: --batch-key}
  max_epochs:
    type: int?
    inputBinding: {prefix: --max-epochs}
  threshold:
    type: float?
    inputBinding: {prefix: --threshold}
arguments: [--quiet, --json, report.json]
outputs:
  result:
    type: [File, Directory]
    outputBinding: {glob: $(inputs.restored)}
  report:
    type: File
    outputBinding: {glob: report.json}
# What a second try may mend: no room, no memory, another process that died.
successCodes: [0]
temporaryFailCodes: [75]
permanentFailCodes: [1, 2]
