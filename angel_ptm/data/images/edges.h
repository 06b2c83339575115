// Edges of an image, as a condition for making images.
#ifndef ANGEL_PTM_DATA_IMAGES_EDGES_H_
#define ANGEL_PTM_DATA_IMAGES_EDGES_H_

#include "angel_ptm/data/images/image.h"

namespace angel_ptm {

// Canny's edges (1986) of the luma of an image with 1 or 3 channels: pixels whose gradient (Sobel, |dx| + |dy| on
// levels 0 to 255) is the maximum across its edge and at least 100, in chains of neighbours that include one of at
// least 200. They are white in all channels of the result; all others are black. Uses integers only, so the result is
// the same everywhere.
Image EdgeMap(const Image& image);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_IMAGES_EDGES_H_
