// Images are rows of pixels, [B*height*width,C]: a layout that matrix products, norms and attention take as it is.
#ifndef ANGEL_PTM_KERNELS_OPS_CONV2D_H_
#define ANGEL_PTM_KERNELS_OPS_CONV2D_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// A convolution of x[B*height*width,in] into y[B*out_height()*out_width(),out]. Its input is x with every pixel
// repeated upsample x upsample times (nearest neighbour) and then padded with zeros: pad_before rows and columns above
// and on the left, pad_after below and on the right.
struct ConvShape {
  int64_t b = 0, height = 0, width = 0, in = 0, out = 0;
  int64_t kernel = 0, stride = 1, pad_before = 0, pad_after = 0, upsample = 1;

  int64_t out_height() const { return (height * upsample + pad_before + pad_after - kernel) / stride + 1; }
  int64_t out_width() const { return (width * upsample + pad_before + pad_after - kernel) / stride + 1; }
  int64_t taps() const { return kernel * kernel; }
  int64_t in_pixels() const { return b * height * width; }
  int64_t out_pixels() const { return b * out_height() * out_width(); }
};

// y = conv(x, weight) + bias. weight is [out,in,kernel,kernel], bias [out] or null. All operands are elements.
struct Conv2dArgs {
  Operand y;
  ConstOperand x, weight, bias;
  ConvShape shape;
};

// Overwrites dx, computed from dy and weight. All operands are elements.
struct Conv2dGradInputArgs {
  Operand dx;
  ConstOperand dy, weight;
  ConvShape shape;
};

// dweight[out,in,kernel,kernel] (+)= its gradient, computed from dy and x. dy and x are elements, dweight elements or
// fp32; each sum is rounded once.
struct Conv2dGradWeightArgs {
  Operand dweight;
  ConstOperand dy, x;
  ConvShape shape;
  bool accumulate = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_CONV2D_H_
