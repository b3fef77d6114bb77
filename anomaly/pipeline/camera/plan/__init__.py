"""How a line's pictures are looked at: size of input, stages of the network, pooling. Made-up marks on its own normals choose."""

from anomaly.pipeline.camera.plan.choose import Plan as Plan
from anomaly.pipeline.camera.plan.choose import choose_plan as choose_plan
from anomaly.pipeline.camera.plan.choose import planned as planned
