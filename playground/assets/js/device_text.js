// Where a model is to run, as the text of a DeviceChoice (llama/params.py): "auto", "cpu", "CUDA0:27", "auto,experts=12".
// where: the radio button. gpu: "auto", or the name of one. layers: on the GPU. experts: layers whose experts stay in RAM.
(where, gpu, layers, experts) => {
  if (!['auto', 'gpu', 'layers'].includes(where)) return where;
  const onGpu = where === 'gpu' ? ':all' : where === 'layers' ? `:${Number(layers) || 0}` : '';
  const inRam = Number.isInteger(experts) && experts >= 0 ? `,experts=${experts}` : '';
  return (gpu || 'auto') + onGpu + inRam;
}
