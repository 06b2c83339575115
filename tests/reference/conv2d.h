#ifndef ANGEL_PTM_TESTS_REFERENCE_CONV2D_H_
#define ANGEL_PTM_TESTS_REFERENCE_CONV2D_H_

#include <cstdint>

namespace angel_ptm::reference {

// A convolution of x[B,height,width,in], with every pixel repeated upsample x upsample times and padded with zeros, by
// weight [out,in,kernel,kernel] into y[B,out_height,out_width,out].
struct ConvolutionShape {
  int64_t b, height, width, in, out, kernel, stride, pad_before, pad_after, upsample;
  int64_t OutHeight() const { return (height * upsample + pad_before + pad_after - kernel) / stride + 1; }
  int64_t OutWidth() const { return (width * upsample + pad_before + pad_after - kernel) / stride + 1; }
};
// bias[out] may be null.
void Conv2d(double* y, const double* x, const double* weight, const double* bias, const ConvolutionShape& shape);
// Overwrites dx and dweight.
void Conv2dGrad(double* dx, double* dweight, const double* dy, const double* x, const double* weight,
                const ConvolutionShape& shape);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_CONV2D_H_
